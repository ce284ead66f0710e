"""Tools in both protocols: offered, called, answered; and the constant part of a prompt that Anthropic is to keep."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.clients import Capabilities, Request, connect
from harness.clients.providers._chat import ChatDialect
from harness.clients.providers._messages import MessagesDialect
from harness.errors import BadRequest
from harness.questions.messages import Message, Tool, ToolCall
from harness.testing import Answer, FakeProvider

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("keys")]

Ask = Callable[..., Request]
CHAT = ChatDialect("m", Capabilities(logprobs=True), "max_tokens", {})
MESSAGES = MessagesDialect("m", Capabilities(logprobs=False), {})

SCHEMA = {"type": "object", "properties": {"latent": {"type": "integer"}}, "required": ["latent"]}
LOOK = Tool("look", "Shows a latent's windows.", SCHEMA)
CALLS = (ToolCall("call_1", "look", '{"latent": 3}'), ToolCall("call_2", "look", '{"latent": 4}'))
TURNS = (
    Message("system", "You explain latents."),
    Message("user", "Explain 3 and 4."),
    Message("assistant", "I look.", CALLS),
    Message("tool", "cats", answers="call_1"),
    Message("tool", "dogs", answers="call_2"),
)


def test_chat_completions_offer_tools_and_tell_calls_and_their_results() -> None:
    body = CHAT.body(Request(TURNS, 50, tools=(LOOK,)))
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "look", "description": "Shows a latent's windows.", "parameters": SCHEMA},
        }
    ]
    assert body["messages"][2] == {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"latent": 3}'}},
            {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": '{"latent": 4}'}},
        ],
    }
    assert body["messages"][3] == {"role": "tool", "content": "cats", "tool_call_id": "call_1"}


def test_messages_offer_tools_and_tell_calls_and_all_their_results_in_one_turn() -> None:
    body = MESSAGES.body(Request((*TURNS, Message("user", "Be brief.")), 50, tools=(LOOK,)))
    assert body["tools"] == [{"name": "look", "description": "Shows a latent's windows.", "input_schema": SCHEMA}]
    assert body["system"] == "You explain latents."
    assert body["messages"] == [
        {"role": "user", "content": "Explain 3 and 4."},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "call_1", "name": "look", "input": {"latent": 3}},
                {"type": "tool_use", "id": "call_2", "name": "look", "input": {"latent": 4}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "cats"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "dogs"},
                {"type": "text", "text": "Be brief."},
            ],
        },
    ]


def test_results_that_the_assistant_goes_on_from_are_a_turn_of_their_own() -> None:
    turns = MESSAGES.body(Request((*TURNS, Message("assistant", "So")), 50))["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant"]


@pytest.mark.parametrize("arguments", ["[1]", "not JSON", "3"])
def test_arguments_that_are_no_object_cannot_be_told_to_anthropic(arguments: str) -> None:
    message = Message("assistant", "", (ToolCall("c", "look", arguments),))
    with pytest.raises(BadRequest, match="the call of look are no JSON object"):
        MESSAGES.body(Request((Message("user", "x"), message), 50))


def test_calls_in_a_reply_are_read_whatever_servers_make_of_them(ask: Ask) -> None:
    def chat(finish: str, *calls: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [{"message": {"content": None, "tool_calls": list(calls)}, "finish_reason": finish}]}

    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"latent": 3'}}
    reply = CHAT.reply(chat("tool_calls", call), ask())
    assert (reply.text, reply.finish) == ("", "calls")
    # the text that the model wrote, broken or not
    assert reply.calls == (ToolCall("c", "look", '{"latent": 3'),)
    # some say `stop` beside calls, or give an object for its text, or no id
    loose = {"function": {"name": "look", "arguments": {"latent": 3}}}
    reply = CHAT.reply(chat("stop", loose), ask())
    assert (reply.finish, reply.calls) == ("calls", (ToolCall("", "look", '{"latent":3}'),))
    assert CHAT.reply(chat("length", call), ask()).finish == "length"


THOUGHT = [
    {"type": "thinking", "thinking": "hm, é", "signature": "x"},
    {"type": "text", "text": "I look."},
    {"type": "redacted_thinking", "data": "00"},
]


def test_thoughts_go_back_to_anthropic_as_they_came_before_the_calls(ask: Ask) -> None:
    called = {"type": "tool_use", "id": "t", "name": "look", "input": {"latent": 3, "of": "é"}}
    reply = MESSAGES.reply({"content": [*THOUGHT, called], "stop_reason": "tool_use"}, ask())
    assert (reply.text, reply.finish) == ("I look.", "calls")
    assert reply.calls == (ToolCall("t", "look", '{"latent": 3, "of": "é"}'),)
    turns = (Message("user", "q"), Message("assistant", reply.text, reply.calls, thoughts=reply.thoughts))
    said = MESSAGES.body(Request((*turns, Message("tool", "cats", answers="t")), 9))["messages"][1]
    assert said == {"role": "assistant", "content": [*THOUGHT, called]}


def test_thoughts_that_lead_to_no_call_are_left_out(ask: Ask) -> None:
    assert MESSAGES.reply({"content": THOUGHT, "stop_reason": "end_turn"}, ask()).thoughts == ""
    message = {"content": "I look.", "reasoning_content": "hm"}
    assert CHAT.reply({"choices": [{"message": message, "finish_reason": "stop"}]}, ask()).thoughts == ""


@pytest.mark.parametrize(
    "told", [{"reasoning_content": "hm, é"}, {"reasoning_content": ""}, {"reasoning_details": [1]}]
)
def test_thoughts_go_back_to_a_chat_as_they_came(told: dict[str, Any], ask: Ask) -> None:
    call = {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "hm", **told}
    reply = CHAT.reply({"choices": [{"message": message, "finish_reason": "tool_calls"}]}, ask())
    said = CHAT.body(Request((Message("assistant", "", reply.calls, thoughts=reply.thoughts),), 9))["messages"][0]
    assert said == {"role": "assistant", "content": None, "tool_calls": [call], **told}


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("name", ["openai/gpt-4.1", "anthropic/claude-sonnet-5"])
async def test_a_conversation_with_tools_goes_through(name: str, thinking: bool) -> None:
    def answer(messages: Any, body: Any) -> Answer:
        results = [message for message in messages if message["role"] == "tool"]
        return Answer("cats and dogs") if results else Answer("", calls=CALLS, finish="calls")

    async with FakeProvider(answer, reasoning=20 if thinking else 0) as provider:
        settings: dict[str, Any] = {"base_url": provider.url if name.startswith("anthropic") else provider.openai_url}
        if thinking:
            settings["extra"] = {"thinking": {"type": "enabled"}}
        client = connect(name, settings)
        assert client.capabilities.tools
        first = await client.generate(Request(TURNS[:2], 50, tools=(LOOK,)))
        assert first.finish == "calls"
        assert [json.loads(call.arguments) for call in first.calls] == [{"latent": 3}, {"latent": 4}]
        results = [Message("tool", "seen", answers=call.id) for call in first.calls]
        said = Message("assistant", first.text, first.calls, thoughts=first.thoughts)
        second = await client.generate(Request((*TURNS[:2], said, *results), 50, tools=(LOOK,)))
        assert (second.text, second.finish, second.calls) == ("cats and dogs", "stop", ())
        if thinking:
            with pytest.raises(BadRequest, match="thinking"):
                await client.generate(Request((*TURNS[:2], replace(said, thoughts=""), *results), 50, tools=(LOOK,)))
        await client.aclose()


# prompt caching

LONG = "x" * 4096


def marks(body: dict[str, Any]) -> list[str]:
    """The texts of the blocks that are marked."""
    blocks = [*(body["system"] if isinstance(body.get("system"), list) else [])]
    for message in body["messages"]:
        blocks += message["content"] if isinstance(message["content"], list) else []
    blocks += body.get("tools", [])
    return [block.get("text", block.get("name", block.get("content"))) for block in blocks if "cache_control" in block]


@pytest.mark.parametrize(
    ("turns", "marked"),
    [
        ([("system", LONG), ("user", "q")], [LONG]),
        ([("system", LONG), ("user", "a"), ("assistant", "b"), ("user", "q")], ["b"]),
        ([("user", LONG), ("assistant", "b"), ("user", "q")], ["b"]),
        ([("user", LONG)], []),
        ([("system", "short"), ("user", LONG)], []),
        ([("system", "short"), ("user", "a"), ("assistant", "b"), ("user", LONG)], []),
    ],
)
def test_what_comes_before_the_last_turn_is_kept_where_it_is_long_enough(
    turns: list[tuple[Any, str]], marked: list[str]
) -> None:
    request = Request(tuple(Message(role, text) for role, text in turns), 50)
    assert marks(MESSAGES.body(request)) == marked
    assert marks(MessagesDialect("m", Capabilities(logprobs=False), {}, cache=False).body(request)) == []


def test_tools_are_kept_too() -> None:
    tools = (LOOK, Tool("other", LONG, SCHEMA))
    assert marks(MESSAGES.body(Request((Message("user", "q"),), 50, tools=tools))) == ["other"]


def test_bytes_and_not_characters_tell_how_long_a_prefix_is() -> None:
    turns = (Message("system", "漢" * 1400), Message("user", "q"))
    assert marks(MESSAGES.body(Request(turns, 50)))


async def test_requests_with_the_same_beginning_read_what_the_first_one_wrote() -> None:
    async with FakeProvider(lambda messages, body: "ok") as provider:
        for cache in (True, False):
            client = connect("anthropic/claude-sonnet-5", {"base_url": provider.url, "cache": cache})
            usages = []
            for question in ("one", "two"):
                turns = (Message("system", f"{cache} {LONG}"), Message("user", question))
                usages.append((await client.generate(Request(turns, 30000))).usage)
            written = [usage.cache_write for usage in usages]
            read = [usage.cache_read for usage in usages]
            assert (written[0] > 1000) is cache
            assert (written[1], read) == (0, [0, written[0]])
            await client.aclose()


async def test_more_tokens_may_be_asked_for_than_the_sdk_allows_without_streaming(ask: Ask) -> None:
    async with FakeProvider(lambda messages, body: "ok") as provider:
        client = connect("anthropic/claude-sonnet-5", {"base_url": provider.url})
        assert (await client.generate(ask(max_tokens=64000))).text == "ok"
        await client.aclose()
