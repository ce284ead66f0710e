"""Embeddings by an endpoint, through the official SDK and every layer, against the fake provider."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import openai
import pytest

from harness.clients import MemoryKeeper, Request, RetryPolicy, RunBudget, assemble, connect, price_of
from harness.clients.ledger import Amount
from harness.clients.prices import Price
from harness.errors import (
    AuthenticationFailed,
    BadRequest,
    ClientError,
    ContextTooLong,
    OverBudget,
    Overloaded,
    RateLimited,
)
from harness.questions.messages import Message
from harness.runs.journal import Journal
from harness.testing import FakeProvider, Fault
from harness.testing.embeddings import embedding
from harness.testing.faults import ERRORS, FaultKind

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("keys")]

SMALL = "openai/text-embedding-3-small"
TEXTS = ("the cat sat", "a dog ran", "", "half a \udce2 character")
QUICK = RetryPolicy(first=0.0)


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as running:
        yield running


@pytest.fixture
def point(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("OPENAI", "LAB", "VLLM", "OLLAMA"):
        monkeypatch.setenv(f"{service}_BASE_URL", provider.openai_url)


def asked(*texts: str) -> Request:
    return Request((), 0, texts=texts)


def expected(texts: tuple[str, ...], width: int = 64) -> np.ndarray:
    sent = [text.replace("\udce2", "�") or " " for text in texts]
    return np.array([embedding(text, width) for text in sent], np.float32)


@pytest.mark.usefixtures("point")
@pytest.mark.parametrize("name", [SMALL, "openai-api/lab/bge", "vllm/intfloat/e5", "ollama/nomic-embed-text"])
async def test_every_compatible_provider_embeds(provider: FakeProvider, name: str) -> None:
    client = connect(name)
    reply = await client.generate(asked(*TEXTS))
    await client.aclose()
    assert reply.vectors is not None
    np.testing.assert_array_equal(reply.vectors.array, expected(TEXTS))
    (received,) = provider.requests
    assert received.path == "/v1/embeddings"
    # lists of numbers unless the server is known to write them shorter
    assert received.body.get("encoding_format") == ("base64" if name == SMALL else None)
    assert reply.usage.input == provider.bill.input > 0
    assert (reply.usage.output, reply.finish, reply.text) == (0, "stop", "")


@pytest.mark.usefixtures("point")
async def test_the_vectors_are_those_that_the_official_sdk_reads(provider: FakeProvider) -> None:
    async with openai.AsyncOpenAI(base_url=provider.openai_url) as sdk:
        theirs = await sdk.embeddings.create(model="text-embedding-3-small", input=list(TEXTS[:2]), dimensions=8)
    client = connect(SMALL, {"extra": {"dimensions": 8}})
    ours = await client.generate(asked(*TEXTS[:2]))
    await client.aclose()
    assert ours.vectors is not None
    np.testing.assert_allclose(ours.vectors.array, [item.embedding for item in theirs.data], rtol=1e-6)
    assert ours.usage.input == theirs.usage.prompt_tokens
    # the SDK asks for base64 too, so both sent the same
    assert provider.requests[0].body == provider.requests[1].body


@pytest.mark.usefixtures("point")
async def test_vectors_come_in_the_order_of_their_texts_whatever_order_they_are_sent_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def backwards(data: dict[str, Any], kind: str) -> None:
        data["data"].reverse()

    monkeypatch.setattr("harness.testing.server.spoil_vectors", backwards)
    async with FakeProvider(faults=[Fault("fewer_vectors")]) as provider:
        client = connect(SMALL, {"base_url": provider.openai_url})
        reply = await client.generate(asked(*TEXTS))
        await client.aclose()
    assert reply.vectors is not None
    np.testing.assert_array_equal(reply.vectors.array, expected(TEXTS))


FAULTS: dict[FaultKind, type[ClientError]] = {
    "fewer_vectors": Overloaded,
    "narrow_vector": Overloaded,
    "nan_vector": Overloaded,
    "malformed": Overloaded,
    "html": Overloaded,
    "rate_limit": RateLimited,
    "server_error": Overloaded,
    "context": ContextTooLong,
    "bad_request": BadRequest,
    "echo_key_error": AuthenticationFailed,
}


@pytest.mark.usefixtures("point")
@pytest.mark.parametrize("name", [SMALL, "openai-api/lab/bge"])
async def test_each_fault_has_its_error_and_what_was_made_is_billed(provider: FakeProvider, name: str) -> None:
    client = connect(name)
    raised: dict[FaultKind, type[ClientError]] = {}
    for kind in FAULTS:
        provider.fail(kind)
        before = provider.bill.generations
        with pytest.raises(ClientError) as caught:
            await client.generate(asked(*TEXTS))
        raised[kind] = type(caught.value)
        assert caught.value.billed == (provider.bill.generations > before)
    await client.aclose()
    assert raised == FAULTS


@pytest.mark.parametrize(
    "data",
    [
        {"data": [{"index": 0, "embedding": "not base64!"}]},
        {"data": [{"index": 0, "embedding": base64.b64encode(b"abc").decode()}]},
        {"data": [{"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": ["1"]}]},
        {"data": [{"index": 0}]},
        {"data": [{"index": 0, "embedding": []}]},
        {"data": None},
        {},
    ],
)
async def test_what_is_no_list_of_vectors_is_unreadable(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.testing.server.spoil_vectors", lambda sent, kind: (sent.clear(), sent.update(data)))
    async with FakeProvider(faults=[Fault("fewer_vectors")]) as provider:
        client = connect(SMALL, {"base_url": provider.openai_url})
        with pytest.raises(Overloaded, match="sent JSON that is no reply"):
            await client.generate(asked("one"))
        await client.aclose()


@pytest.mark.usefixtures("point")
async def test_a_fault_is_retried_and_the_reply_kept_and_shared(provider: FakeProvider) -> None:
    keeper = MemoryKeeper()
    client = assemble(connect(SMALL), keeper, policy=QUICK, price=price_of(SMALL))
    provider.fail("rate_limit", "nan_vector", "server_error")
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(client.generate, asked(*TEXTS))
    again = await client.generate(asked(*TEXTS))
    await client.aclose()
    assert again.vectors is not None
    assert len(provider.requests) == 4
    assert sorted(str(outcome) for outcome, _ in keeper.attempts.values()) == [
        "ok", "overloaded", "overloaded", "rate_limited",
    ]  # fmt: skip
    charged = [amount for _, amount in keeper.attempts.values()]
    assert sum(amount.dollars or 0.0 for amount in charged) >= provider.bill.input * 0.02 / 1e6
    assert again.usage.cost == pytest.approx(again.usage.input * 0.02 / 1e6)


async def test_what_one_request_may_cost_is_set_aside_first_and_never_less_than_it_does(tmp_path: Path) -> None:
    price = Price(input=1.0, output=0.0)
    texts = tuple("猫 wörd " * count for count in range(1, 9))
    async with FakeProvider(tokens="bytes", prices={"*": price}) as provider:
        keeper = MemoryKeeper()
        client = assemble(connect(SMALL, {"base_url": provider.openai_url}), keeper, price=price)
        reserved: list[Amount] = []
        own = keeper.reserve

        async def reserve(attempt: Any) -> None:
            reserved.append(attempt.reserved)
            await own(attempt)

        keeper.reserve = reserve  # type: ignore[method-assign] - a spy
        reply = await client.generate(asked(*texts))
        budget = RunBudget(dollars=(reserved[0].dollars or 0.0) - 1e-9)
        bare = connect(SMALL, {"base_url": provider.openai_url})
        poor = assemble(bare, MemoryKeeper(), price=price, budget=budget)
        with pytest.raises(OverBudget, match=r"raise limits\.spend"):
            await poor.generate(asked(*texts))
        for each in (client, poor):
            await each.aclose()
        assert len(provider.requests) == 1
    (charged,) = [amount for _, amount in keeper.attempts.values()]
    assert reply.usage.cost == pytest.approx(provider.bill.dollars)
    assert (charged.dollars or 0.0) == pytest.approx(provider.bill.dollars)
    assert (reserved[0].dollars or 0.0) >= provider.bill.dollars
    assert reserved[0].tokens >= provider.bill.input


@pytest.mark.usefixtures("point")
async def test_a_kept_reply_is_not_paid_for_again_by_another_process(provider: FakeProvider, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        async with Journal(tmp_path / "journal.sqlite") as journal:
            client = assemble(connect(SMALL), journal)
            found.append(await client.generate(asked(*TEXTS)))
            await client.aclose()
    assert found[0] == found[1]
    assert len(provider.requests) == 1


@pytest.mark.usefixtures("point")
async def test_models_that_write_are_refused_before_anything_is_sent(provider: FakeProvider) -> None:
    for name in ("openai/gpt-5-mini", "openai/o3", "anthropic/claude-sonnet-5", "openrouter/x/y"):
        client = connect(name, {"key_variable": "OPENAI_API_KEY"})
        with pytest.raises(BadRequest, match="gives no embeddings"):
            await client.generate(asked("one"))
        await client.aclose()
    assert provider.requests == []


def test_what_embeds_is_known_by_name_where_it_can_be() -> None:
    known = {
        name: connect(name).capabilities.embeddings
        for name in (SMALL, "openai/gpt-5-mini", "openai/chatgpt-4o-latest", "openai/bge", "vllm/a/b", "ollama/a")
    }
    assert list(known.values()) == [True, False, False, None, None, None]
    assert connect(SMALL).capabilities.context == 8192
    assert price_of("openai/text-embedding-3-large") == Price(input=0.13, output=0.0)


@pytest.mark.usefixtures("point")
async def test_only_a_text_that_is_too_long_by_itself_is_refused(provider: FakeProvider) -> None:
    client = connect(SMALL, {"context": 10})
    assert len((await client.generate(asked(*["a word or two"] * 50))).vectors or ()) == 50
    with pytest.raises(ContextTooLong):
        await client.generate(asked("short", "long " * 20))
    await client.aclose()
    assert len(provider.requests) == 1


async def test_a_server_that_was_not_started_for_embeddings_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = (501, "not_supported_error", "This server does not support embeddings. Start it with `--embeddings`")
    monkeypatch.setitem(ERRORS, "unavailable", told)
    async with FakeProvider(faults=[Fault("unavailable")]) as provider:
        client = assemble(connect("vllm/a/b", {"base_url": provider.openai_url}), MemoryKeeper(), policy=QUICK)
        with pytest.raises(BadRequest, match=r"answered 501: This server does not support embeddings"):
            await client.generate(asked("one"))
        await client.aclose()
        assert len(provider.requests) == 1


def test_text_and_texts_are_other_requests_and_texts_keep_their_order() -> None:
    client = connect(SMALL)
    wires = [client.wire(asked("a", "b")), client.wire(asked("b", "a")), client.wire(asked("ab"))]
    assert len({wire.key(0) for wire in wires}) == 3
    assert client.wire(asked("a", "b")) == wires[0]
    assert client.wire(Request((Message("user", "a"),), 1)).path == "/chat/completions"
