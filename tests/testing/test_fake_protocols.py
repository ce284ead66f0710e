"""The shapes in which the fake provider speaks each protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from harness.questions.messages import ToolCall
from harness.testing import Answer, FakeProvider, Price
from harness.testing.answers import scored
from harness.testing.tokens import CHARACTERS

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
TOOL = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}
CALL = ToolCall("c1", "look", '{"at": 3}')
LONG = "word " * 2000


async def told(provider: FakeProvider, path: str, body: Mapping[str, Any]) -> Any:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.post(provider.openai_url + path, json=body)


async def complete(body: Mapping[str, Any], answer: Any = lambda *_: " and on", **options: Any) -> Any:
    async with FakeProvider(answer, **options) as provider:
        sent = await told(provider, "/completions", {"model": "m"} | body)
    assert sent.status_code == 200, sent.text
    return sent.json()


async def test_a_completion_with_echo_scores_the_prompt() -> None:
    reply = await complete({"prompt": "on and", "echo": True, "logprobs": 2, "max_tokens": 1})
    (choice,) = reply["choices"]
    logprobs = choice["logprobs"]
    assert choice["text"] == "on and and"
    assert logprobs["tokens"] == ["on", " and", " and"]
    assert logprobs["text_offset"] == [0, 2, 6]
    assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
    for token, logprob, top in zip(*(logprobs[k][1:] for k in ("tokens", "token_logprobs", "top_logprobs")), strict=True):  # fmt: skip  # noqa: E501
        assert top[token] == logprob < 0
        assert 2 <= len(top) <= 3
    assert choice["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 1


async def test_an_echo_alone_generates_nothing() -> None:
    reply = await complete({"prompt": "on and", "echo": True, "logprobs": 0, "max_tokens": 0})
    assert reply["choices"][0]["text"] == "on and"
    assert reply["usage"]["completion_tokens"] == 0


async def test_prompt_logprobs_depend_on_what_comes_before_alone() -> None:
    def scores(text: str) -> list[float]:
        return [item.logprob for item in scored(CHARACTERS.split(text), 0)]

    assert scores("the cat sat")[:2] == scores("the cat ran")[:2]
    assert scores("the cat sat")[2] != scores("the dog sat")[2]


async def test_a_token_within_a_character_is_told_by_its_bytes() -> None:
    reply = await complete({"prompt": "é!", "echo": True, "logprobs": 0, "max_tokens": 0}, tokens="bytes")
    assert reply["choices"][0]["logprobs"]["tokens"] == ["bytes:\\xc3", "bytes:\\xa9", "!"]
    assert reply["choices"][0]["logprobs"]["text_offset"] == [0, 0, 1]


async def test_without_echo_only_what_is_generated_is_scored() -> None:
    reply = await complete({"prompt": ["on", "off"], "logprobs": 1}, lambda messages, body: messages[-1]["content"])
    assert [choice["text"] for choice in reply["choices"]] == ["on", "off"]
    assert [choice["logprobs"]["tokens"] for choice in reply["choices"]] == [["on"], ["off"]]
    assert reply["choices"][0]["logprobs"]["token_logprobs"][0] < 0
    assert (await complete({"prompt": "on"}))["choices"][0]["logprobs"] is None


async def test_vllms_prompt_logprobs_stand_where_vllm_puts_them() -> None:
    reply = await complete({"prompt": "on and on", "prompt_logprobs": 1, "max_tokens": 1})
    first, *others = reply["choices"][0]["prompt_logprobs"]
    assert first is None
    real = [next(iter(entry.values())) for entry in others]
    assert [entry["decoded_token"] for entry in real] == [" and", " on"]
    assert all(entry["rank"] >= 1 and entry["logprob"] < 0 for entry in real)
    turns = [{"role": "user", "content": "say"}, {"role": "assistant", "content": "on and on"}]
    asked = {"messages": turns, "prompt_logprobs": 0, "continue_final_message": True, "add_generation_prompt": False}
    async with FakeProvider() as provider:
        chat = (await told(provider, "/chat/completions", CHAT | asked)).json()
    pieces = [next(iter(entry.values()))["decoded_token"] for entry in chat["prompt_logprobs"][1:]]
    assert pieces == ["say", "<|end|>", "<|assistant|>", "on", " and", " on"]


async def test_openais_tools_are_called_and_answered() -> None:
    def answer(messages: Any, body: Any) -> Answer | str:
        return f"saw {messages[-1]['content']}" if messages[-1]["role"] == "tool" else Answer("", calls=(CALL,))

    async with FakeProvider(answer) as provider:
        asked = CHAT | {"tools": [{"type": "function", "function": TOOL}]}
        choice = (await told(provider, "/chat/completions", asked)).json()["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        function = {"name": "look", "arguments": '{"at": 3}'}
        assert choice["message"]["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
        turn = {"role": "tool", "tool_call_id": "c1", "content": "a cat"}
        messages = [*CHAT["messages"], choice["message"], turn]
        reply = (await told(provider, "/chat/completions", asked | {"messages": messages})).json()
        assert reply["choices"][0]["message"]["content"] == "saw a cat"
        stray = await told(provider, "/chat/completions", asked | {"messages": [turn]})
        assert stray.status_code == 400


async def test_anthropics_tools_are_called_and_answered() -> None:
    def answer(messages: Any, body: Any) -> Answer | str:
        return f"saw {messages[-1]['content']}" if messages[-1]["role"] == "tool" else Answer("Wait.", calls=(CALL,))

    async with FakeProvider(answer) as provider:
        asked = CHAT | {"tools": [{"name": "look", "input_schema": {"type": "object"}}]}
        reply = (await told(provider, "/messages", asked)).json()
        assert reply["stop_reason"] == "tool_use"
        assert reply["content"][1] == {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": 3}}
        turn = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "a cat"}]}
        messages = [*CHAT["messages"], {"role": "assistant", "content": reply["content"]}, turn]
        reply = (await told(provider, "/messages", asked | {"messages": messages})).json()
        assert reply["content"] == [{"type": "text", "text": "saw a cat"}]
        stray = await told(provider, "/messages", asked | {"messages": [turn]})
        assert stray.status_code == 400


async def test_a_marked_prefix_is_written_to_the_cache_once_and_then_read() -> None:
    def body(last: str, marks: int = 1) -> dict[str, Any]:
        mark = {"cache_control": {"type": "ephemeral"}}
        system = [{"type": "text", "text": LONG} | mark]
        block = {"type": "text", "text": last} | (mark if marks > 1 else {})
        return CHAT | {"system": system, "messages": [{"role": "user", "content": [block]}]}

    async def usage(provider: FakeProvider, body: dict[str, Any]) -> tuple[int, int, int]:
        told_usage = (await told(provider, "/messages", body)).json()["usage"]
        return tuple(
            told_usage[key] for key in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        )

    async with FakeProvider(lambda messages, body: messages[0]["content"][:4]) as provider:
        assert await usage(provider, body("one more")) == (5, 2503, 0)
        assert await usage(provider, body("two more")) == (5, 0, 2503)
        assert await usage(provider, body("two more", marks=2)) == (0, 5, 2503)
        assert (provider.bill.input, provider.bill.cache_write, provider.bill.cache_read) == (10, 2508, 5006)
        plain = CHAT | {"system": LONG}
        assert await usage(provider, plain) == (2507, 0, 0)
        short = CHAT | {"system": [{"type": "text", "text": "short", "cache_control": {"type": "ephemeral"}}]}
        assert (await usage(provider, short))[1:] == (0, 0)
        whole = plain | {"cache_control": {"type": "ephemeral"}}
        assert await usage(provider, whole) == (0, 4, 2503)


async def test_parts_of_text_are_read_as_one() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    async with FakeProvider(lambda messages, body: messages[-1]["content"]) as provider:
        body = CHAT | {"messages": [{"role": "user", "content": parts}]}
        chat = (await told(provider, "/chat/completions", body)).json()
        message = (await told(provider, "/messages", body)).json()
    assert chat["choices"][0]["message"]["content"] == message["content"][0]["text"] == "one two"


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/chat/completions", {"messages": ["hello"]}),
        ("/chat/completions", {"messages": [{"role": "user"}]}),
        ("/chat/completions", {"tools": []}),
        ("/chat/completions", {"tools": [{"name": "look"}]}),
        ("/messages", {"messages": [{"role": "assistant", "content": "hello"}]}),
        ("/messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}),
        ("/messages", {"tools": [{"name": "look"}]}),
        ("/completions", {}),
        ("/completions", {"prompt": [1, 2]}),
        ("/completions", {"prompt": "x", "logprobs": 99}),
    ],
)
async def test_what_is_malformed_is_refused(path: str, change: dict[str, Any]) -> None:
    async with FakeProvider() as provider:
        sent = await told(provider, path, CHAT | change)
        assert sent.status_code == 400, sent.text
        assert "error" in sent.json()
        assert provider.bill.generations == 0


async def test_a_body_that_is_no_json_is_refused_and_other_paths_are_not_there() -> None:
    async with FakeProvider() as provider, httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.post(f"{provider.openai_url}/messages", content=b"{")).status_code == 400
        assert (await client.get(f"{provider.openai_url}/nothing")).status_code == 404


async def test_a_body_of_many_megabytes_is_taken() -> None:
    async with FakeProvider(lambda *_: "ok") as provider:
        body = CHAT | {"messages": [{"role": "user", "content": "x" * 5_000_000}]}
        assert (await told(provider, "/chat/completions", body)).status_code == 200


async def test_models_with_a_price_or_asked_for_are_listed() -> None:
    prices = {"*": Price(), "dear": Price(9, 90)}
    async with FakeProvider(prices=prices) as provider, httpx2.AsyncClient(trust_env=False) as client:
        await told(provider, "/chat/completions", CHAT | {"messages": []})
        listed = (await client.get(f"{provider.openai_url}/models")).json()
    assert [model["id"] for model in listed["data"]] == ["dear", "m"]


async def test_a_call_that_a_protocol_cannot_carry_is_a_told_mistake() -> None:
    async with FakeProvider(lambda *_: Answer("", calls=(ToolCall("c1", "look", "[1"),))) as provider:
        sent = await told(provider, "/messages", CHAT)
    assert sent.status_code == 400
    assert "failed" in json.loads(sent.text)["error"]["message"]


async def test_embeddings_are_the_same_always_and_near_where_words_are_shared() -> None:
    texts = ["the cat sat", "The cat ran!", "rain on hills"]
    async with FakeProvider() as provider:
        first = (await told(provider, "/embeddings", {"model": "e", "input": texts})).json()
        again = (await told(provider, "/embeddings", {"model": "e", "input": texts[1]})).json()
        assert first["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
        assert (provider.bill.input, provider.bill.output, provider.bill.generations) == (11, 0, 2)
    vectors = [item["embedding"] for item in first["data"]]
    assert [item["index"] for item in first["data"]] == [0, 1, 2]
    assert again["data"][0]["embedding"] == vectors[1]
    near, far = (sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:])
    assert near > 0.4 > far


@pytest.mark.parametrize(
    "wrong",
    [{"input": []}, {"input": ["a", ""]}, {"input": [1]}, {}, {"input": "a", "encoding_format": "hex"},
     {"input": "a", "dimensions": 0}, {"input": ["a"] * 2049}],
)  # fmt: skip
async def test_embeddings_that_the_real_one_refuses_are_refused(wrong: dict[str, Any]) -> None:
    async with FakeProvider() as provider:
        assert (await told(provider, "/embeddings", {"model": "e"} | wrong)).status_code == 400
        assert provider.bill.generations == 0
