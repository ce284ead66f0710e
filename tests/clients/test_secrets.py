"""A server that echoes the key in body, header and error leaves no trace of it."""

from __future__ import annotations

import base64
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from harness.clients import Client, MemoryKeeper, Request, assemble, connect
from harness.clients.serialise import reply_to_data
from harness.errors import ClientError
from harness.testing import Answer, FakeProvider
from harness.testing.server import FaultKind

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("keys")]

Ask = Callable[..., Request]
MODELS = ("openai/gpt-4.1", "anthropic/claude-haiku-4-5")


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    from os import environ

    return environ["OPENAI_API_KEY" if "openai" in request.node.name else "ANTHROPIC_API_KEY"]


@pytest.fixture(autouse=True)
def _everything_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def connected_to(name: str, provider: FakeProvider) -> Client:
    return connect(name, {"base_url": provider.url if name.startswith("anthropic/") else provider.openai_url})


def traces(key: str) -> list[str]:
    return [
        key,
        key[:20],
        key[-20:],
        quote(key, safe=""),
        base64.b64encode(key.encode()).decode()[:40],
        base64.b64encode(f"Bearer {key}".encode()).decode()[12:40],
    ]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception with its causes and contexts, and theirs."""
    if error is not None:
        yield error
        yield from chain(error.__cause__)
        if error.__context__ is not error.__cause__:
            yield from chain(error.__context__)


def everything(error: BaseException) -> str:
    """All that can be read off an exception: its chain, their attributes, the traceback with local variables' names."""
    told = [f"{link!s} {link!r} {link.args!r} {vars(link)!r}" for link in chain(error)]
    return "".join([*told, *traceback.format_exception(error), str(pickle.dumps(error))])


@pytest.mark.parametrize("name", MODELS)
async def test_a_reply_that_echoes_the_key_does_not_hold_it(
    name: str, key: str, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(messages: Any, body: Any) -> Answer:
        spelled = base64.b64encode(f"Bearer {key}".encode()).decode()
        return Answer(f"Authorization: Bearer {key}\n{spelled}\n{quote(key, safe='')} and {key[:25]}")

    async with FakeProvider(answer) as provider:
        keeper = MemoryKeeper()
        client = assemble(connected_to(name, provider), keeper)
        provider.fail("echo_key")
        top = 5 if client.capabilities.logprobs else None
        replies = [await client.generate(ask(text, top_logprobs=top, max_tokens=9999)) for text in ("one", "two")]
        assert provider.requests[0].key == key, "the server never saw the key"
        await client.aclose()
    kept = repr([reply_to_data(reply) for reply in keeper.replies.values()])
    for trace in traces(key):
        assert trace not in repr(replies)
        assert trace not in kept
        assert trace not in "".join("".join(item.token for item in reply.logprobs or ()) for reply in replies)
        assert trace not in caplog.text


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["echo_key_error", "reset", "malformed", "html", "server_error"])
async def test_an_error_that_echoes_the_key_does_not_hold_it(
    name: str, key: str, kind: FaultKind, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeProvider(lambda messages, body: f"{key} " * 3) as provider:
        client = connected_to(name, provider)
        provider.fail(kind)
        with pytest.raises(ClientError) as caught:
            await client.generate(ask())
        await client.aclose()
    told = everything(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
    for trace in traces(key):
        assert trace not in told
        assert trace not in caplog.text
    assert provider.requests[0].key == key


@pytest.mark.parametrize("name", MODELS)
async def test_a_broken_header_that_holds_the_key_leaves_no_trace(
    name: str, key: str, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """Below HTTP: the transport itself quotes the bytes that it cannot read."""
    import asyncio

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nx-{key}\x00: {key}\x01\r\nBearer {key}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = connect(name, {"base_url": f"http://127.0.0.1:{port}"})
    with pytest.raises(ClientError) as caught:
        await client.generate(ask())
    await client.aclose()
    server.close()
    await server.wait_closed()
    for trace in traces(key):
        assert trace not in everything(caught.value)
        assert trace not in caplog.text


@pytest.mark.parametrize("name", MODELS)
async def test_nothing_of_a_client_shows_its_key(name: str, key: str) -> None:
    client = connect(name)
    told = repr(client) + repr(vars(client)) + repr(client.wire(Request((), 5)))
    await client.aclose()
    for trace in traces(key):
        assert trace not in told


@pytest.mark.parametrize("name", MODELS)
async def test_a_redirect_does_not_carry_the_key_elsewhere(name: str, key: str, ask: Ask) -> None:
    async with FakeProvider() as provider:
        client = connected_to(name, provider)
        provider.fail("redirect")
        with pytest.raises(ClientError, match="redirect"):
            await client.generate(ask())
        assert len(provider.requests) == 1
        await client.aclose()
