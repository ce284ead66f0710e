"""Completions: plain prompts, both shapes of logprobs, and the logprobs of given texts by echo or vLLM's extension."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clients import Capabilities, Client, Request, connect
from harness.clients.protocol import Reply
from harness.clients.providers._completions import CompletionsDialect, spelled
from harness.clients.providers.vllm import VLLMChatDialect, VLLMCompletionsDialect
from harness.errors import BadRequest, MissingLogprobs
from harness.questions.messages import Message, Tool
from harness.testing import FakeProvider
from harness.values import TokenLogprob

pytestmark = pytest.mark.anyio

Ask = Callable[..., Request]

KNOWN = Capabilities(logprobs=True, prompt_logprobs=None)
DIALECT = CompletionsDialect("m", KNOWN, {})
VLLM = VLLMCompletionsDialect("m", KNOWN, {})
VLLM_CHAT = VLLMChatDialect("m", KNOWN, "max_tokens", {})


def read(dialect: Any, data: dict[str, Any], request: Request) -> Reply:
    return dialect.reply(dialect.decode(msgspec.json.encode(data)), request)


def completion(text: str, logprobs: Any = None, generated: int = 1, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 9, "completion_tokens": generated}
    return {"choices": [{"text": text, "finish_reason": "length", "logprobs": logprobs, **more}], "usage": usage}


def lists(tokens: Sequence[str], offsets: Sequence[int] | None = None) -> dict[str, Any]:
    values = [None, *(-float(number) for number in range(1, len(tokens)))]
    return {"tokens": list(tokens), "token_logprobs": values, "text_offset": offsets}


def scoring(continuation: str, *messages: str, top: int | None = None) -> Request:
    return Request(tuple(Message("user", m) for m in messages), 0, top_logprobs=top, continuation=continuation)


def test_messages_are_sent_as_plain_text_parted_by_blank_lines() -> None:
    request = Request((Message("system", "Be brief."), Message("user", "Hi")), 5, 0.5, seed=3, stop=("x",))
    assert DIALECT.body(request) == {
        "model": "m",
        "prompt": "Be brief.\n\nHi\n\n",
        "max_tokens": 5,
        "temperature": 0.5,
        "seed": 3,
        "stop": ["x"],
    }


def test_a_last_message_that_ends_in_white_space_is_gone_on_with() -> None:
    assert DIALECT.body(Request((Message("user", "a\t3"), Message("user", "b\t")), 1))["prompt"] == "a\t3\n\nb\t"


def test_no_alternatives_are_asked_for_as_one_since_some_servers_take_0_for_none(ask: Ask) -> None:
    assert DIALECT.body(ask(top_logprobs=0))["logprobs"] == 1
    assert DIALECT.body(ask(top_logprobs=5))["logprobs"] == 5


def test_completions_take_no_tools(ask: Ask) -> None:
    with pytest.raises(BadRequest, match="chat completions do"):
        DIALECT.body(ask(tools=(Tool("f", "", {}),)))


def test_logprobs_in_lists_are_read_with_alternatives_by_rank(ask: Ask) -> None:
    logprobs = {"tokens": ["c"], "token_logprobs": [-3.0], "top_logprobs": [{"b": -2.0, "a": -0.1, "c": -3.0}]}
    reply = read(DIALECT, completion("c", logprobs), ask(top_logprobs=2))
    assert reply.logprobs == (TokenLogprob("c", -3.0, (("a", -0.1), ("b", -2.0), ("c", -3.0))),)
    assert (reply.text, reply.finish, reply.usage.input) == ("c", "length", 9)


def test_logprobs_in_the_shape_of_chat_completions_are_read(ask: Ask) -> None:
    item = {"token": "c", "logprob": -3.0, "bytes": [99], "top_logprobs": [{"token": "a", "logprob": -0.1}]}
    reply = read(DIALECT, completion("c", {"content": [item]}), ask(top_logprobs=1))
    assert reply.logprobs is not None
    assert tuple(reply.logprobs) == (TokenLogprob("c", -3.0, (("a", -0.1),)),)


def test_a_part_of_a_character_is_told_by_its_bytes(ask: Ask) -> None:
    reply = read(DIALECT, completion("é", lists(["bytes:\\xc3", "bytes:\\xa9"])), ask(top_logprobs=1))
    assert reply.logprobs is not None
    joined = "".join(item.token for item in reply.logprobs)
    assert joined.encode("utf-8", "surrogateescape").decode() == "é"


@pytest.mark.parametrize("logprobs", [None, {}, {"tokens": []}, {"content": []}])
def test_promised_logprobs_that_are_not_there_are_an_error(ask: Ask, logprobs: Any) -> None:
    with pytest.raises(MissingLogprobs):
        read(DIALECT, completion("c", logprobs), ask(top_logprobs=2))


def test_a_text_is_echoed_with_one_token_more_and_nothing_of_how_to_draw(ask: Ask) -> None:
    messages = (Message("system", "S"), Message("user", "Hi"))
    request = Request(messages, 0, 0.7, top_logprobs=3, seed=1, stop=("x",), continuation=" there")
    assert DIALECT.body(request) == {
        "model": "m",
        "prompt": "S\n\nHi there",
        "max_tokens": 1,
        "logprobs": 3,
        "echo": True,
    }


@pytest.mark.parametrize(
    ("tokens", "offsets", "expected"),
    [
        (["Hi", "\n\n", " the", "re", "!"], [0, 2, 4, 8, 10], [" the", "re"]),
        (["Hi", "\n\n", " the", "re", "!"], None, [" the", "re"]),
        # a mark of the beginning that is no part of the text
        (["<s>", "Hi", "\n\n", " the", "re", "!"], [0, 3, 5, 7, 11, 13], [" the", "re"]),
        # a blank that SentencePiece puts before the text
        ([" Hi", "\n\n", " the", "re", "!"], [0, 3, 5, 9, 11], [" the", "re"]),
        # a token that stands on both sides of the boundary is the continuation's
        (["Hi", "\n", "\n the", "re", "!"], [0, 2, 3, 8, 10], ["\n the", "re"]),
    ],
)
def test_the_continuations_tokens_are_found_by_where_they_stand(
    tokens: list[str], offsets: list[int] | None, expected: list[str]
) -> None:
    reply = read(DIALECT, completion("Hi\n\n there!", lists(tokens, offsets)), scoring(" there", "Hi\n\n"))
    assert reply.logprobs is not None
    assert [item.token for item in reply.logprobs] == expected
    assert [item.logprob for item in reply.logprobs] == [-float(len(tokens) - 3), -float(len(tokens) - 2)]
    assert (reply.text, reply.finish) == (" there", "stop")


def test_tokens_of_one_character_at_the_boundary_stay_together() -> None:
    tokens = ["Hi", "\n\n", "", "", "", "\U0001f600", "!"]
    reply = read(
        DIALECT, completion("Hi\n\n\U0001f600!", lists(tokens, [0, 2, 4, 4, 4, 4, 5])), scoring("\U0001f600", "Hi\n\n")
    )
    assert reply.logprobs is not None
    assert [item.token for item in reply.logprobs] == ["", "", "", "\U0001f600"]


def test_nothing_stands_before_the_first_token_of_a_text_by_itself() -> None:
    reply = read(DIALECT, completion("a b!", lists(["a", " b", "!"], [0, 1, 3])), scoring("a b"))
    assert reply.logprobs is not None
    assert math.isnan(reply.logprobs[0].logprob)
    assert reply.logprobs[1:] == (TokenLogprob(" b", -1.0),)


def test_a_text_to_whose_end_no_token_was_generated_is_read() -> None:
    reply = read(DIALECT, completion("a b", lists(["a", " b"], [0, 1]), generated=0), scoring("a b"))
    assert reply.logprobs is not None
    assert len(reply.logprobs) == 2


@pytest.mark.parametrize(
    ("text", "logprobs"),
    [
        ("!", lists(["!"])),
        ("c d!", lists(["c", " d", "!"])),
        ("!", {"content": [{"token": "!", "logprob": -1.0}]}),
        ("a b!", None),
        ("a b!", lists(["!"])),
        ("a b!", {"tokens": ["a", " b", "!"], "token_logprobs": [None, None, -1.0]}),
        ("a b!", {"tokens": ["a", " b", "!"], "token_logprobs": [None, -1.0]}),
    ],
)
def test_a_server_that_does_not_echo_every_token_with_a_logprob_is_an_error(text: str, logprobs: Any) -> None:
    with pytest.raises(MissingLogprobs, match="echo"):
        read(DIALECT, completion(text, logprobs), scoring("a b"))


@pytest.mark.parametrize("generated", [0, 2])
def test_a_wrong_count_of_generated_tokens_gives_no_other_tokens_logprobs(generated: int) -> None:
    data = completion("x y z!", lists(["x", " y", " z", "!"], [0, 1, 3, 5]), generated)
    with pytest.raises(MissingLogprobs, match="do not spell"):
        read(DIALECT, data, scoring("x y z"))


# vLLM


def by_id(*tokens: tuple[str, float] | None) -> list[Any]:
    entries = [t and {"9": {"logprob": t[1], "rank": 2, "decoded_token": t[0]}} for t in tokens]
    for entry in entries:
        if entry:
            entry["1"] = {"logprob": -0.01, "rank": 1, "decoded_token": "x"}
    return entries


def test_vllm_is_asked_for_the_logprobs_of_the_prompt() -> None:
    assert VLLM.body(scoring(" there", "Hi", top=2)) == {
        "model": "m",
        "prompt": "Hi there",
        "max_tokens": 1,
        "prompt_logprobs": 2,
    }
    assert VLLM_CHAT.body(scoring("there", "Hi")) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "there"}],
        "max_tokens": 1,
        "prompt_logprobs": 0,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


def test_an_assistants_turn_that_was_begun_is_gone_on_with() -> None:
    messages = (Message("user", "Hi"), Message("assistant", "The answer is"))
    turns = VLLM_CHAT.body(Request(messages, 0, continuation=" 3"))["messages"]
    assert turns[1:] == [{"role": "assistant", "content": "The answer is 3"}]


def test_a_text_by_itself_is_no_chat() -> None:
    with pytest.raises(BadRequest, match="completions take it"):
        VLLM_CHAT.body(scoring("there"))


def test_vllms_logprobs_of_a_prompt_are_read_where_each_api_puts_them() -> None:
    items = by_id(None, ("\n\n", -1.0), (" the", -2.0), ("re", -3.0))
    expected = (
        TokenLogprob(" the", -2.0, (("x", -0.01), (" the", -2.0))),
        TokenLogprob("re", -3.0, (("x", -0.01), ("re", -3.0))),
    )
    asked = scoring(" there", "Hi\n\n", top=2)
    assert read(VLLM, completion("!", prompt_logprobs=items), asked).logprobs == expected
    chat = {"choices": [{"message": {"content": "!"}}], "prompt_logprobs": items}
    assert read(VLLM_CHAT, chat, asked).logprobs == expected


def test_a_reply_of_vllm_without_the_promised_logprobs_is_an_error() -> None:
    with pytest.raises(MissingLogprobs, match="vLLM"):
        read(VLLM, completion("!"), scoring("a"))


def token(text: str) -> TokenLogprob:
    return TokenLogprob(text, -1.0)


@pytest.mark.parametrize(
    ("tokens", "text", "start", "expected"),
    [
        ([token("a"), token(" b")], "a b", 1, [" b"]),
        ([token("a"), token("b")], "a b", 1, [" b"]),
        ([token("a"), token("b")], "a b", 0, ["a", " b"]),
        ([token("<s>"), token("a"), token(" b")], "a b", 0, ["a", " b"]),
        ([None, token(" b")], "a b", 0, ["a", " b"]),
        ([token("a"), token(" b")], "a b", 2, [" b"]),
        ([token("a"), token(""), token(""), token("é")], "aé", 1, ["", "", "é"]),
    ],
)
def test_tokens_are_followed_from_the_end_of_the_text(
    tokens: list[TokenLogprob | None], text: str, start: int, expected: list[str]
) -> None:
    assert [item.token for item in spelled(tokens, text, start)] == expected


@pytest.mark.parametrize("tokens", [[], [token("b")], [token("a"), token("c")]])
def test_tokens_that_do_not_spell_the_text_are_an_error(tokens: list[TokenLogprob | None]) -> None:
    with pytest.raises(MissingLogprobs, match="do not spell"):
        spelled(tokens, "a b", 0)


@given(st.lists(st.text("ab \n", min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_any_cut_of_a_text_gives_the_tokens_that_reach_beyond_it(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    start = data.draw(st.integers(0, len(text) - 1))
    tokens: list[TokenLogprob | None] = [TokenLogprob(piece, -float(at)) for at, piece in enumerate(pieces)]
    ends = [len("".join(pieces[: at + 1])) for at in range(len(pieces))]
    assert spelled(tokens, text, start) == tuple(t for t, end in zip(tokens, ends, strict=True) if end > start)


# against the fake provider


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(lambda messages, body: "and so on") as running:
        yield running


@pytest.mark.parametrize(
    ("name", "api"),
    [("openai-api/mine/base", "completions"), ("vllm/org/base", "completions"), ("vllm/org/chat", "chat")],
)
async def test_a_given_text_comes_back_with_its_logprobs(provider: FakeProvider, name: str, api: str) -> None:
    client = connect(name, {"base_url": provider.openai_url, "api": api})
    reply = await client.generate(scoring(" the cat sat", "Once upon a time", top=3))
    assert reply.logprobs is not None
    assert reply.text == "".join(item.token for item in reply.logprobs) == " the cat sat"
    assert all(item.logprob < 0 and len(item.top) >= 3 for item in reply.logprobs)
    await client.aclose()


async def test_two_apis_of_vllm_generate_with_logprobs(provider: FakeProvider, ask: Ask) -> None:
    for api in ("chat", "completions"):
        client: Client = connect("vllm/org/m", {"base_url": provider.openai_url, "api": api})
        reply = await client.generate(ask(top_logprobs=2, seed=5))
        assert reply.text == "and so on"
        assert reply.logprobs is not None
        assert "".join(item.token for item in reply.logprobs) == reply.text
        assert provider.requests[-1].body["seed"] == 5
        await client.aclose()


async def test_a_server_without_echo_is_asked_once_and_then_no_more(ask: Ask) -> None:
    async with FakeProvider(lambda messages, body: "x") as provider:
        client = connect("openai-api/mine/m", {"base_url": provider.openai_url, "api": "completions"})
        provider.fail("null_logprobs")
        for _ in range(2):
            with pytest.raises(MissingLogprobs, match="vllm/ and local/ models give them"):
                await client.generate(scoring("a text"))
        assert len(provider.requests) == 1
        assert (await client.generate(ask(top_logprobs=1))).logprobs
        await client.aclose()


async def test_chat_completions_refuse_a_given_text_before_anything_is_sent(provider: FakeProvider, keys: None) -> None:
    for name, url in (("openai/gpt-4.1", provider.openai_url), ("anthropic/claude-sonnet-5", provider.url)):
        client = connect(name, {"base_url": url})
        assert client.capabilities.prompt_logprobs is False
        with pytest.raises(MissingLogprobs, match="so nothing was sent"):
            await client.generate(scoring(" there", "Hi"))
        await client.aclose()
    assert not provider.requests
