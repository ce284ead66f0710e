"""The fake provider's batch APIs, asked by the official SDKs' own typed methods."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anthropic
import openai
import pytest

from harness.testing import BatchFault, FakeProvider

pytestmark = pytest.mark.anyio

NAMES = [f"r{number}" for number in range(8)]


def _chat(name: str) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": f"say {name}"}]}


def _lines(names: Sequence[str], url: str = "/v1/chat/completions") -> bytes:
    lines = [{"custom_id": name, "method": "POST", "url": url, "body": _chat(name)} for name in names]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def _openai(provider: FakeProvider, content: bytes, endpoint: str = "/v1/chat/completions") -> Any:
    """A batch after it was submitted and looked at, and the lines of its files."""
    async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        file = await client.files.create(file=("x.jsonl", content), purpose="batch")
        made = await client.batches.create(
            input_file_id=file.id,
            endpoint=endpoint,  # type: ignore[arg-type] - wrong ones, too
            completion_window="24h",
            metadata={"mark": "1"},
        )
        assert made.status == "validating"
        batch = await client.batches.retrieve(made.id)
        contents = [await client.files.content(name) for name in (batch.output_file_id, batch.error_file_id) if name]
        assert [each.id async for each in client.batches.list(limit=1)][-1] == "batch_0"
        return batch, [json.loads(line) for content in contents for line in content.text.splitlines()]


async def _anthropic(provider: FakeProvider, names: Sequence[str]) -> Any:
    async with anthropic.AsyncAnthropic(api_key="k", base_url=provider.url, max_retries=0) as client:
        made = await client.messages.batches.create(
            requests=[{"custom_id": name, "params": _chat(name)} for name in names]  # type: ignore[typeddict-item] - plain data
        )
        batch = await client.messages.batches.retrieve(made.id)
        results = [result async for result in await client.messages.batches.results(made.id)]
        assert [each.id async for each in client.messages.batches.list(limit=1)] == [made.id]
        return batch, results


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(lambda messages, _: messages[-1]["content"]) as made:
        yield made


async def test_an_openai_batch_has_a_reply_to_each_request_in_any_order_at_half_the_price(
    provider: FakeProvider,
) -> None:
    batch, lines = await _openai(provider, _lines(NAMES))
    assert (batch.status, batch.request_counts.completed, batch.metadata) == ("completed", 8, {"mark": "1"})
    ids = [line["custom_id"] for line in lines]
    assert sorted(ids) == NAMES != ids
    assert all(
        line["response"]["body"]["choices"][0]["message"]["content"] == f"say {line['custom_id']}" for line in lines
    )
    assert provider.bill.dollars == pytest.approx((provider.bill.input + 10 * provider.bill.output) / 2e6)
    assert {request.batch for request in provider.requests} == {"batch_0"}


async def test_an_anthropic_batch_has_them_too(provider: FakeProvider) -> None:
    batch, results = await _anthropic(provider, NAMES)
    assert (batch.processing_status, batch.request_counts.succeeded) == ("ended", 8)
    ids = [result.custom_id for result in results]
    assert sorted(ids) == NAMES != ids
    assert all(result.result.message.content[0].text == f"say {result.custom_id}" for result in results)


async def test_a_batch_is_in_progress_for_as_many_looks_as_wished() -> None:
    async with FakeProvider(looks=2) as provider:
        batch, lines = await _openai(provider, _lines(NAMES))
        assert (batch.status, lines) == ("in_progress", [])
        # the look above was one, the list the other
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url) as client:
            assert (await client.batches.retrieve("batch_0")).status == "completed"


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b'{"custom_id": "a"\n', "invalid_json_line", 1),
        (_lines(["a", "b", "a"]), "duplicate_custom_id", 3),
        (_lines(["a"]) + _lines(["b"], "/v1/completions"), "mismatched_url", 2),
    ],
)
async def test_a_file_that_is_wrong_fails_validation(
    content: bytes, code: str, line: int, provider: FakeProvider
) -> None:
    batch, lines = await _openai(provider, content)
    assert (batch.status, batch.request_counts, lines) == ("failed", None, [])
    (error,) = batch.errors.data
    assert (error.code, error.line) == (code, line)
    assert provider.bill.generations == 0


@pytest.mark.parametrize(("kind", "error"), [("expired", "batch_expired"), ("cancelled", "batch_cancelled")])
async def test_a_batch_that_ends_early_has_some_replies(kind: Any, error: str, provider: FakeProvider) -> None:
    provider.batches.fail(kind)
    batch, lines = await _openai(provider, _lines(NAMES))
    assert batch.status == kind
    undone = [line for line in lines if line["response"] is None]
    assert {line["error"]["code"] for line in undone} == {error}
    assert 0 < len(undone) < 8 == len(lines)
    assert provider.bill.generations == 8 - len(undone)


async def test_errors_stand_in_a_file_of_their_own_and_duplicates_twice(provider: FakeProvider) -> None:
    provider.batches.fail(BatchFault("errors"), BatchFault("duplicates"))
    batch, lines = await _openai(provider, _lines(NAMES))
    failed = [line for line in lines if line["response"]["status_code"] == 500]
    assert 0 < len(failed) == batch.request_counts.failed < 8
    batch, lines = await _openai(provider, _lines(NAMES))
    assert set(Counter(line["custom_id"] for line in lines).values()) == {1, 2}
    assert batch.request_counts.completed == 8


async def test_anthropics_results_tell_what_became_of_each(provider: FakeProvider) -> None:
    provider.batches.fail("errors")
    batch, results = await _anthropic(provider, NAMES)
    kinds = Counter(result.result.type for result in results)
    assert kinds == {"succeeded": batch.request_counts.succeeded, "errored": batch.request_counts.errored}
    errored = next(result.result for result in results if result.result.type == "errored")
    assert errored.error.error.type == "api_error"


async def test_custom_ids_are_short_and_unlike(provider: FakeProvider) -> None:
    for names in (["a", "a"], ["x" * 65], ["a b"]):
        with pytest.raises(anthropic.BadRequestError, match="custom_id"):
            await _anthropic(provider, names)
