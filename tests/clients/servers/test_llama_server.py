"""llama.cpp's own server: chat completions, completions, messages, and what it does in ways of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from harness.clients import Client, Limits, MemoryKeeper, Request, assemble, connect
from harness.clients.logprobs import RawLogprobs
from harness.errors import AuthenticationFailed, ContextTooLong, MissingLogprobs
from harness.questions.messages import Message, Tool

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

Ask = Callable[..., Request]
OPENING = "Once upon a time, there was a little girl named Lily."


@pytest.fixture
async def connected(llama_server: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Client]]:
    monkeypatch.setenv("LLAMA_API_KEY", "sk-servers-8f3b2c7d9e")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-servers-8f3b2c7d9e")
    clients: list[Client] = []

    def connecting(name: str, **settings: Any) -> Client:
        url = llama_server if name.startswith("anthropic/") else f"{llama_server}/v1"
        clients.append(connect(name, {"base_url": url, **settings}))
        return clients[-1]

    yield connecting
    for client in clients:
        await client.aclose()


def greedy(text: str = OPENING, tokens: int = 12, **options: Any) -> Request:
    return Request((Message("user", text),), tokens, 0.0, **options)


@pytest.mark.parametrize(("api", "after"), [("chat", " "), ("completions", "\n\n")])
async def test_logprobs_are_those_of_torch(
    connected: Callable[..., Client], reference: Any, api: str, after: str
) -> None:
    client = connected("openai-api/llama/tiny", api=api)
    reply = await client.generate(greedy(top_logprobs=5))
    expected = reference.greedy(OPENING + after, 12)
    assert reply.logprobs is not None
    assert isinstance(reply.logprobs, RawLogprobs), "completions come in the shape of chat completions"
    assert [item.token for item in reply.logprobs] == [token.text for token in expected]
    assert "".join(item.token for item in reply.logprobs).strip() == reply.text.strip()
    for item, token in zip(reply.logprobs, expected, strict=True):
        assert item.logprob == pytest.approx(token.logprob, abs=0.01)
        assert len(item.top) == 5
        for text, logprob in item.top:
            assert logprob == pytest.approx(token.all[text], abs=0.01)
    assert (reply.finish, reply.usage.output, reply.model) == ("length", 12, "tiny")
    assert reply.usage.input + reply.usage.cache_read == reference.length(OPENING + after)
    assert reply.fingerprint


async def test_messages_are_answered_as_chat_completions_are(connected: Callable[..., Client], reference: Any) -> None:
    client = connected("anthropic/tiny", temperature=True)
    reply = await client.generate(greedy())
    assert reply.text.strip() == "".join(token.text for token in reference.greedy(OPENING + " ", 12)).strip()
    assert (reply.finish, reply.usage.output) == ("length", 12)
    assert reply.usage.input + reply.usage.cache_read == reference.length(OPENING + " ")
    messages = (
        Message("system", "A story."),
        Message("user", "Tim"),
        Message("assistant", "was"),
        Message("user", "a"),
    )
    longer = await client.generate(Request(messages, 3, 0.0, stop=("\n",)))
    assert longer.usage.input + longer.usage.cache_read == reference.length("A story. Tim was a ")


async def test_a_marked_prefix_and_tools_are_taken_by_its_messages(connected: Callable[..., Client]) -> None:
    client = connected("anthropic/tiny", temperature=True)
    long = "One day a cat sat on a mat. " * 160
    tool = Tool("look", "Look around.", {"type": "object", "properties": {"where": {"type": "string"}}})
    messages = (Message("system", long), Message("user", "The cat"))
    request = Request(messages, 3, 0.0, tools=(tool,))
    assert b"cache_control" in client.wire(request).body
    # 4,480 bytes are some 1,900 of this model's tokens, more than fit a slot: what was sent was understood
    with pytest.raises(ContextTooLong):
        await client.generate(request)


async def test_stop_and_seed_decide_the_reply(connected: Callable[..., Client]) -> None:
    client = connected("openai-api/llama/tiny")
    free = Request((Message("user", OPENING),), 12, 1.0, seed=7)
    first, again = [await client.generate(free) for _ in range(2)]
    assert first.text == again.text
    whole = await client.generate(greedy(tokens=20))
    word = whole.text.split()[3]
    stopped = await client.generate(greedy(tokens=20, stop=(word,), top_logprobs=1))
    assert (stopped.finish, stopped.text) == ("stop", whole.text.partition(word)[0])


async def test_32_requests_at_once_are_all_answered(connected: Callable[..., Client]) -> None:
    keeper = MemoryKeeper()
    client = assemble(connected("openai-api/llama/tiny"), keeper, limits=Limits(32))
    replies: dict[int, int] = {}

    async def one(number: int) -> None:
        reply = await client.generate(greedy(f"Day {number}: {OPENING}", top_logprobs=2))
        assert reply.logprobs is not None
        replies[number] = len(reply.logprobs)

    async with anyio.create_task_group() as group:
        for number in range(32):
            group.start_soon(one, number)
    assert len(keeper.replies) == 32
    assert all(count == 12 for count in replies.values())


async def test_a_prompt_that_does_not_fit_is_told_by_name(connected: Callable[..., Client]) -> None:
    for name, settings in [("openai-api/llama/tiny", {}), ("openai-api/llama/tiny", {"api": "completions"})]:
        with pytest.raises(ContextTooLong, match="exceeds the available context"):
            await connected(name, **settings).generate(greedy(OPENING * 100))
    with pytest.raises(ContextTooLong):
        await connected("anthropic/tiny").generate(greedy(OPENING * 100))


async def test_a_wrong_key_is_told_by_name(connected: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LLAMA_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(variable, "sk-wrong-0123456789")
    for name in ("openai-api/llama/tiny", "anthropic/tiny"):
        with pytest.raises(AuthenticationFailed) as caught:
            await connected(name).generate(greedy())
        assert "sk-wrong" not in str(caught.value)


async def test_an_echo_that_is_not_heeded_is_no_logprobs_of_the_prompt(connected: Callable[..., Client]) -> None:
    client = connected("openai-api/llama/tiny", api="completions")
    assert client.capabilities.prompt_logprobs is None
    with pytest.raises(MissingLogprobs, match="does not echo"):
        await client.generate(Request((), 0, continuation=OPENING))
    assert client.capabilities.prompt_logprobs is False
    with pytest.raises(MissingLogprobs, match="nothing was sent"):
        await client.generate(Request((), 0, continuation=OPENING))


async def test_a_reply_cut_within_a_character_has_no_logprobs_and_is_a_reply(connected: Callable[..., Client]) -> None:
    # the byte F0 is the token 243 of this vocabulary: 3 of marks, then the 256 bytes
    client = connected("openai-api/llama/tiny", extra={"logit_bias": [[243, 100]]})
    reply = await client.generate(greedy(tokens=1, top_logprobs=2))
    assert reply.text in ("", "\ufffd")
    assert reply.logprobs == ()


async def test_an_unknown_model_is_answered_by_the_one_that_is_there(connected: Callable[..., Client]) -> None:
    reply = await connected("openai-api/llama/other").generate(greedy(tokens=2))
    assert reply.model == "tiny"
