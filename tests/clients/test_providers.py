"""Both providers through the official SDKs against a real server on the loopback device."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from harness.clients import Client, Limits, MemoryKeeper, Request, RetryPolicy, assemble, connect, request_key
from harness.errors import (
    AccountError,
    AuthenticationFailed,
    BadRequest,
    ClientError,
    ConnectionFailed,
    ContextTooLong,
    MissingLogprobs,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    TimedOut,
)
from harness.questions.messages import Message
from harness.testing import Answer, FakeProvider, Fault, Received, storm
from harness.testing.server import FaultKind
from harness.values import TokenLogprob, digest

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("keys")]

Ask = Callable[..., Request]
MODELS = ("openai/gpt-4.1", "anthropic/claude-haiku-4-5", "openai-api/mine/tiny")


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(lambda messages, body: "[1, 0]") as running:
        yield running


@pytest.fixture(params=MODELS)
async def client(request: pytest.FixtureRequest, provider: FakeProvider) -> AsyncIterator[Client]:
    connected = connected_to(request.param, provider)
    yield connected
    await connected.aclose()


def connected_to(name: str, provider: FakeProvider, **settings: Any) -> Client:
    url = provider.url if name.startswith("anthropic/") else provider.openai_url
    return connect(name, {"base_url": url, **settings})


async def test_a_reply_comes_with_text_usage_model_and_request_id(client: Client, ask: Ask) -> None:
    reply = await client.generate(ask("x" * 400))
    assert reply.text == "[1, 0]"
    assert reply.finish == "stop"
    assert (reply.usage.input, reply.usage.output, reply.usage.requests) == (103, 6, 1)
    assert reply.usage.cost is None
    assert reply.model == client.name.rpartition("/")[2]
    assert reply.request_id == "req_0"


async def test_what_is_sent_is_exactly_what_the_wire_says(client: Client, provider: FakeProvider, ask: Ask) -> None:
    request = ask("é \U0001f600 < > \n", temperature=0.0, stop=("END",), seed=3)
    await client.generate(request)
    wire = client.wire(request).data()
    received = provider.requests[0]
    assert received.body == wire["body"]
    assert received.digest == digest(wire["body"])
    assert provider.url in wire["url"] + "/"
    assert received.path == (wire["url"].removeprefix(provider.url) + wire["path"])


async def test_the_system_prompt_stands_where_the_protocol_wants_it(client: Client, provider: FakeProvider) -> None:
    turns = (("system", "be brief"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    await client.generate(Request(tuple(Message(role, text) for role, text in turns), 50))  # type: ignore[arg-type] - roles
    body = provider.requests[0].body
    if client.name.startswith("anthropic/"):
        assert body["system"] == "be brief"
        assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    else:
        assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "user"]


async def test_half_a_character_is_sent_as_a_replacement_character(
    client: Client, provider: FakeProvider, ask: Ask
) -> None:
    await client.generate(ask("caf\udcc3 \ud83d\ude00"))
    assert provider.requests[0].body["messages"][-1]["content"] == "caf\ufffd \U0001f600"


async def test_cached_tokens_are_counted_apart(client: Client) -> None:
    messages = (Message("user", "x" * 6000), Message("assistant", "ok"), Message("user", "y" * 40))
    first = (await client.generate(Request(messages, 50))).usage
    written = (0, 1506) if client.name.startswith("anthropic/") else (1506, 0)
    assert (first.input, first.cache_read, first.cache_write) == (13, *written)
    again = (await client.generate(Request((*messages[:2], Message("user", "z" * 40)), 50))).usage
    assert (again.input, again.cache_read, again.cache_write) == (13, 1506, 0)


async def test_a_reply_over_the_limit_is_cut(client: Client, ask: Ask) -> None:
    reply = await client.generate(ask(max_tokens=3))
    assert (reply.text, reply.finish, reply.usage.output) == ("[1,", "length", 3)


FAULTS: dict[FaultKind, type[ClientError]] = {
    "bad_request": BadRequest,
    "content_filter": Refused,
    "context": ContextTooLong,
    "echo_key_error": AuthenticationFailed,
    "html": Overloaded,
    "malformed": Overloaded,
    "not_found": AccountError,
    "overloaded": Overloaded,
    "quota": QuotaExhausted,
    "rate_limit": RateLimited,
    "redirect": BadRequest,
    "reset": ConnectionFailed,
    "reset_mid_body": ConnectionFailed,
    "server_error": Overloaded,
    "unauthorized": AuthenticationFailed,
    "unavailable": Overloaded,
}


async def test_each_fault_has_its_error(client: Client, provider: FakeProvider, ask: Ask) -> None:
    raised: dict[FaultKind, type[ClientError]] = {}
    for kind in FAULTS:
        provider.fail(kind)
        with pytest.raises(ClientError) as caught:
            await client.generate(ask(kind))
        raised[kind] = type(caught.value)
        assert caught.value.model == client.name
        assert str(caught.value).isprintable()
        # the connection, or a new one, serves the next request
        assert (await client.generate(ask())).text == "[1, 0]"
    assert raised == FAULTS
    assert len(provider.requests) == 2 * len(FAULTS), "an SDK sent something again by itself"


async def test_a_server_that_does_not_answer_times_out(provider: FakeProvider, ask: Ask) -> None:
    for name in MODELS:
        client = connected_to(name, provider, timeout=0.2)
        provider.fail("hang")
        with pytest.raises(TimedOut):
            await client.generate(ask())
        await client.aclose()


async def test_a_server_that_is_not_there_is_a_failed_connection(ask: Ask) -> None:
    for name in MODELS:
        client = connect(name, {"base_url": "http://127.0.0.1:1"})
        with pytest.raises(ConnectionFailed, match=r"http://127\.0\.0\.1:1"):
            await client.generate(ask())
        await client.aclose()


@pytest.mark.parametrize(("text", "seconds"), [("2", 2.0), ("1m30s", 90.0), ("Thu, 01 Jan 2070 00:00:00 GMT", None)])
async def test_the_wait_that_is_asked_for_comes_with_the_error(
    client: Client, provider: FakeProvider, ask: Ask, text: str, seconds: float | None
) -> None:
    provider.fail(Fault("rate_limit", text))
    with pytest.raises(RateLimited) as caught:
        await client.generate(ask())
    wait = caught.value.retry_after
    assert wait is not None
    assert wait == seconds or (seconds is None and wait > 1e9)


@pytest.mark.parametrize("kind", ["refusal", "empty", "truncated"])
async def test_a_reply_that_says_little_is_still_a_reply(
    client: Client, provider: FakeProvider, ask: Ask, kind: FaultKind
) -> None:
    provider.fail(kind)
    reply = await client.generate(ask())
    assert reply.finish == {"refusal": "refusal", "empty": "stop", "truncated": "length"}[kind]
    assert (reply.text == "") == (kind == "empty")


@pytest.mark.parametrize("name", MODELS)
async def test_a_cancelled_request_leaves_the_client_in_order(name: str, ask: Ask) -> None:
    arrived = anyio.Event()

    def hang_once(received: Received) -> Fault | None:
        arrived.set()
        return Fault("hang") if received.number == 0 else None

    async with FakeProvider(lambda messages, body: "[1, 0]", faults=hang_once) as provider:
        client = connected_to(name, provider)
        async with anyio.create_task_group() as group:
            group.start_soon(client.generate, ask())
            await arrived.wait()
            group.cancel_scope.cancel()
        assert (await client.generate(ask())).text == "[1, 0]"
        await client.aclose()


async def test_logprobs_are_read_with_their_alternatives(provider: FakeProvider, ask: Ask) -> None:
    for name in ("openai/gpt-4.1", "openai-api/mine/tiny"):
        client = connected_to(name, provider)
        reply = await client.generate(ask(top_logprobs=5))
        assert reply.logprobs is not None
        assert "".join(item.token for item in reply.logprobs) == "[1, 0]"
        for item in reply.logprobs:
            assert len(item.top) == 5
            assert max(item.top, key=lambda pair: pair[1]) == (item.token, item.logprob)
        labels = [item for item in reply.logprobs if item.token in "01"]
        assert all({"0", "1"} <= {token for token, _ in item.top} for item in labels)
        assert (await client.generate(ask("no logprobs"))).logprobs is None
        await client.aclose()


async def test_characters_split_over_tokens_join_up_again(ask: Ask) -> None:
    text = "é\U0001f600"
    pieces = [text.encode()[:1], text.encode()[1:4], text.encode()[4:]]
    tokens = tuple(TokenLogprob(raw.decode("utf-8", "surrogateescape"), -0.5, ()) for raw in pieces)
    async with FakeProvider(lambda messages, body: Answer(text, tokens)) as provider:
        client = connected_to("openai/gpt-4.1", provider)
        reply = await client.generate(ask(top_logprobs=2))
        assert reply.logprobs is not None
        joined = "".join(item.token for item in reply.logprobs)
        assert joined.encode("utf-8", "surrogateescape").decode() == reply.text == text
        await client.aclose()


async def test_missing_logprobs_are_an_error_that_says_what_to_set(provider: FakeProvider, ask: Ask) -> None:
    client = connected_to("openai/gpt-4.1", provider)
    provider.fail("null_logprobs")
    for _ in range(3):
        with pytest.raises(MissingLogprobs, match=r'set logprobs = false in \[model."openai/gpt-4.1"\]'):
            await client.generate(ask(top_logprobs=5))
    assert len(provider.requests) == 1, "a second reply was paid for"
    assert (await client.generate(ask())).text == "[1, 0]"
    await client.aclose()


async def test_one_reply_without_logprobs_among_others_condemns_no_model(provider: FakeProvider, ask: Ask) -> None:
    client = connected_to("openai/gpt-4.1", provider)
    assert (await client.generate(ask(top_logprobs=5))).logprobs
    provider.fail("null_logprobs")
    with pytest.raises(MissingLogprobs):
        await client.generate(ask(top_logprobs=5))
    assert (await client.generate(ask(top_logprobs=5))).logprobs
    await client.aclose()


@pytest.mark.parametrize("name", MODELS)
async def test_through_all_layers_a_storm_of_faults_loses_nothing(name: str, ask: Ask) -> None:
    faults = storm(0.33, ["rate_limit", "server_error", "overloaded", "malformed", "html", "reset", "reset_mid_body"])
    async with FakeProvider(lambda messages, body: messages[-1]["content"], faults=faults) as provider:
        client = connected_to(name, provider)
        policy = RetryPolicy(attempts=12, first=0.002, longest=0.01)
        layered = assemble(client, MemoryKeeper(), limits=Limits(32), policy=policy)
        texts: dict[str, str] = {}

        async def one(text: str) -> None:
            texts[text] = (await layered.generate(ask(text))).text

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(one, f"question {number % 100}")
        assert texts == {f"question {number}": f"question {number}" for number in range(100)}
        assert 100 < len(provider.requests) < 200
        assert max(provider.counts.values()) <= 12
        assert provider.peak <= 32
        await layered.aclose()


async def test_a_run_with_its_replies_kept_sends_nothing(provider: FakeProvider, ask: Ask) -> None:
    keeper = MemoryKeeper()
    for _ in range(2):
        layered = assemble(connected_to("openai/gpt-4.1", provider), keeper)
        await layered.generate(ask(top_logprobs=3))
        assert request_key(layered, ask(top_logprobs=3)) in keeper.replies
        await layered.aclose()
    assert len(provider.requests) == 1
