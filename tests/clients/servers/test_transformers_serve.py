"""transformers' own server, which leaves options that it does not know unheeded, logprobs among them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from harness.clients import Client, Limits, MemoryKeeper, Request, RetryPolicy, assemble, connect
from harness.clients.models import Models
from harness.clients.wants import Want
from harness.errors import BadRequest, ClientError, MissingLogprobs
from harness.questions.messages import Message
from harness.runs.probing import probe

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

OPENING = "Once upon a time, there was a little girl named Lily."
NAME = "openai-api/serve/tiny"


@pytest.fixture
def settings(transformers_serve: str) -> dict[str, Any]:
    return {"base_url": f"{transformers_serve}/v1"}


@pytest.fixture
async def client(settings: dict[str, Any]) -> AsyncIterator[Client]:
    connected = connect(NAME, settings)
    yield connected
    await connected.aclose()


def greedy(text: str = OPENING, tokens: int = 12, **options: Any) -> Request:
    return Request((Message("user", text),), tokens, 0.0, **options)


async def test_what_it_writes_is_what_torch_writes(client: Client, reference: Any) -> None:
    reply = await client.generate(greedy())
    assert reply.text.strip() == "".join(token.text for token in reference.greedy(OPENING + " ", 12)).strip()
    assert (reply.finish, reply.usage.output) == ("length", 12)


async def test_completions_are_answered_too(settings: dict[str, Any], reference: Any) -> None:
    client = connect(NAME, {**settings, "api": "completions"})
    reply = await client.generate(greedy())
    assert reply.text.strip() == "".join(token.text for token in reference.greedy(f"{OPENING}\n\n", 12)).strip()
    await client.aclose()


@pytest.mark.parametrize(("api", "what"), [("chat", "logprobs"), ("completions", "prompt_logprobs")])
async def test_that_it_gives_no_logprobs_is_found_once_and_refused_from_then_on(
    settings: dict[str, Any], api: str, what: Any
) -> None:
    keeper = MemoryKeeper()
    models = Models({NAME: {**settings, "api": api}}, lambda client: assemble(client, keeper))
    client = models.client(NAME)
    assert getattr(client.capabilities, what) is None
    await probe(models, [Want("scorer detection", NAME, what)])
    assert getattr(client.capabilities, what) is False
    wanting = greedy(top_logprobs=5) if what == "logprobs" else Request((), 0, continuation=OPENING)
    with pytest.raises(MissingLogprobs, match="nothing was sent"):
        await client.generate(wanting)
    assert (await client.generate(greedy())).text
    await models.aclose()


async def test_32_requests_at_once_are_all_answered(client: Client) -> None:
    layered = assemble(client, MemoryKeeper(), limits=Limits(32))
    texts: list[str] = []

    async def one(number: int) -> None:
        texts.append((await layered.generate(greedy(f"Day {number}: {OPENING}", 4))).text)

    async with anyio.create_task_group() as group:
        for number in range(32):
            group.start_soon(one, number)
    assert len(texts) == 32


async def test_a_model_that_it_does_not_serve_is_told(settings: dict[str, Any]) -> None:
    client = connect("openai-api/serve/nobody/nothing", settings)
    with pytest.raises(BadRequest):
        await client.generate(greedy(tokens=2))
    await client.aclose()


async def test_after_a_failure_inside_it_the_next_request_gets_through(client: Client) -> None:
    policy = RetryPolicy(attempts=4, first=0.05, longest=0.1)
    layered = assemble(client, MemoryKeeper(), policy=policy)
    for text in ("one", "two"):
        # no message at all fails inside the server, which may then reset the connection that it keeps
        with pytest.raises(ClientError):
            await client.generate(Request((), 2))
        assert (await layered.generate(greedy(text, 2))).usage.output == 2
