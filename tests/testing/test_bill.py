"""What the fake provider charges for, and how it counts."""

from __future__ import annotations

import math
from typing import Any, get_args

import anyio
import httpx2
import pytest

from harness.questions.messages import ToolCall
from harness.testing import Answer, FakeProvider, Fault, Price, ProviderProcess
from harness.testing.answers import by_keywords, labels_11, labels_220, lognormal, tokens_of
from harness.testing.faults import ERRORS, FaultKind
from harness.testing.tokens import BYTES, CHARACTERS

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hello, fake model"}]}
UNANSWERED = ("hang", "reset", "reset_mid_body")


async def post(
    provider: FakeProvider | ProviderProcess, body: dict[str, Any], path: str = "/v1/chat/completions"
) -> Any:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.post(provider.url + path, json=body)


@pytest.mark.parametrize("kind", [kind for kind in get_args(FaultKind) if kind not in UNANSWERED])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/completions"])
async def test_every_generation_is_billed_and_no_error_is(kind: FaultKind, path: str) -> None:
    async with FakeProvider(lambda messages, body: "one two", faults=[Fault(kind, delay=0.0)]) as provider:
        sent = await post(provider, CHAT | {"prompt": "x"} if "chat" not in path else CHAT, path)
        assert (sent.status_code == 200) == (kind not in ERRORS)
        assert provider.bill.generations == (kind not in ERRORS)
        assert (provider.bill.dollars > 0) == (kind not in ERRORS)
        assert provider.statuses == {str(sent.status_code): 1}


@pytest.mark.parametrize("kind", ["reset", "reset_mid_body"])
async def test_what_was_cut_off_is_billed(kind: FaultKind) -> None:
    async with FakeProvider(faults=[Fault(kind)]) as provider:
        with pytest.raises(httpx2.TransportError):
            await post(provider, CHAT)
        assert provider.bill.generations == 1
        assert provider.statuses == {"reset": 1}


@pytest.mark.parametrize("kind", ["hang", "slow"])
async def test_those_who_leave_early_pay(kind: FaultKind) -> None:
    async with FakeProvider(faults=[Fault(kind, delay=30)]) as provider:
        with anyio.move_on_after(0.2):
            await post(provider, CHAT)
        assert provider.bill.generations == 1


async def test_dollars_are_by_the_models_price() -> None:
    prices = {"m": Price(2, 20), "*": Price(4, 40)}
    async with FakeProvider(lambda messages, body: "a b c", prices=prices) as provider:
        usage = (await post(provider, CHAT)).json()["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (7, 3)
        assert provider.bill.dollars == pytest.approx((7 * 2 + 3 * 20) / 1e6)
        await post(provider, CHAT | {"model": "other"})
        assert provider.bill.dollars == pytest.approx((7 * 6 + 3 * 60) / 1e6)
    async with FakeProvider(lambda messages, body: "a b c") as provider:
        sent = await post(provider, CHAT | {"usage": {"include": True}})
        assert sent.json()["usage"]["cost"] == provider.bill.dollars == pytest.approx((7 + 3 * 10) / 1e6)


async def test_in_bytes_no_text_has_more_tokens() -> None:
    text = "漢字 and é 🙂"
    for tokens in (CHARACTERS, BYTES):
        assert "".join(tokens.split(text)).encode("utf-8", "surrogateescape").decode() == text
    assert len(BYTES.split(text)) == BYTES.count(text) == len(text.encode()) >= len(CHARACTERS.split(text))
    async with FakeProvider(lambda messages, body: text, tokens="bytes") as provider:
        body = CHAT | {"messages": [{"role": "user", "content": text}], "logprobs": True, "top_logprobs": 1}
        sent = (await post(provider, body)).json()
        assert sent["usage"]["prompt_tokens"] == len(text.encode()) + 4
        assert sent["usage"]["completion_tokens"] == len(text.encode())
        written = b"".join(bytes(item["bytes"]) for item in sent["choices"][0]["logprobs"]["content"])
        assert written.decode() == text


@pytest.mark.parametrize(("path", "field"), [("/v1/chat/completions", "completion_tokens"), ("/v1/messages", "output_tokens")])  # fmt: skip  # noqa: E501
async def test_reasoning_counts_against_the_limit_and_may_use_all_of_it(path: str, field: str) -> None:
    thoughts = iter([10, 500, 48])
    async with FakeProvider(lambda *_: "a b c", reasoning=lambda messages, body: next(thoughts)) as provider:
        first = (await post(provider, CHAT, path)).json()
        second = (await post(provider, CHAT, path)).json()
        third = (await post(provider, CHAT, path)).json()
        assert [reply["usage"][field] for reply in (first, second, third)] == [13, 50, 50]
        assert (provider.bill.output, provider.bill.reasoning) == (113, 108)
    if "choices" in second:
        assert second["choices"][0]["finish_reason"] == "length"
        assert second["choices"][0]["message"]["content"] == ""
        assert second["usage"]["completion_tokens_details"]["reasoning_tokens"] == 50
    else:
        assert second["stop_reason"] == "max_tokens"
        assert [block["type"] for block in first["content"]] == ["thinking", "text"]
        assert [block["type"] for block in second["content"]] == ["thinking"]
        assert second["usage"]["output_tokens_details"]["thinking_tokens"] == 50


async def test_tool_calls_are_output() -> None:
    call = ToolCall("c1", "look", '{"at": 3}')
    async with FakeProvider(lambda *_: Answer("", calls=(call,))) as provider:
        whole = (await post(provider, CHAT)).json()
        cut = (await post(provider, CHAT | {"max_tokens": 2})).json()
    assert whole["usage"]["completion_tokens"] == len(CHARACTERS.split('look {"at": 3}'))
    assert cut["usage"]["completion_tokens"] == 2
    assert cut["choices"][0]["finish_reason"] == "length"
    assert "tool_calls" not in cut["choices"][0]["message"]


async def test_the_bill_of_another_process_can_be_read() -> None:
    arguments = ("--price", "m=2,20", "--reasoning", "5", "--tokens", "bytes", "--answer", "labels_11")
    with ProviderProcess(*arguments) as provider:
        await post(provider, CHAT)
        await post(provider, {})
        bill = provider.bill()
    spent = {"generations": 1, "input": 17 + 4, "output": 16, "reasoning": 5, "cache_read": 0, "cache_write": 0}
    assert bill == spent | {"dollars": pytest.approx((21 * 2 + 16 * 20) / 1e6), "statuses": {"200": 1, "400": 1}}


async def test_a_canned_reply_is_billed_each_time() -> None:
    with ProviderProcess("--canned", "--answer", "labels_220", "--rate", "0.1", "--burst", "3") as provider:
        body = CHAT | {"max_tokens": 300, "logprobs": True, "top_logprobs": 5}
        replies = [await post(provider, body) for _ in range(4)]
        bill = provider.bill()
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
    assert len({reply.text for reply in replies[:3]}) == 1
    assert len(replies[2].json()["choices"][0]["logprobs"]["content"]) == 220
    assert (bill["generations"], bill["output"]) == (3, 660)


async def test_the_replies_for_measurements_have_the_tokens_in_their_names() -> None:
    assert len(tokens_of(Answer(labels_11([], {})), 0, 5)) == 11
    assert len(tokens_of(Answer(labels_220([], {})), 0, 5)) == 220


async def test_lengths_are_lognormal_and_always_the_same() -> None:
    answer = lognormal(lambda *_: "[1, 0]", 80, 0.5)
    lengths = [len(CHARACTERS.split(str(answer([], {"n": n})))) for n in range(400)]
    assert lengths == [len(CHARACTERS.split(str(answer([], {"n": n})))) for n in range(400)]
    assert sum(lengths) / 400 == pytest.approx(80, rel=0.08)
    logs = [math.log(length) for length in lengths]
    mean = sum(logs) / 400
    assert math.sqrt(sum((each - mean) ** 2 for each in logs) / 400) == pytest.approx(0.5, rel=0.1)


async def test_a_lengthened_answer_still_answers() -> None:
    judge = [{"role": "user", "content": 'Explanation: "March".\nPassage 1: on March 3\nPassage 2: on June 3\n'}]
    text = lognormal(by_keywords, 100, 0.1)(judge, {})
    assert isinstance(text, str)
    assert text.endswith("\n[1, 0]")
    said = lognormal(lambda *_: Answer("x", reasoning=3), 100, 0.1)([], {})
    assert isinstance(said, Answer)
    assert said.reasoning == 3
