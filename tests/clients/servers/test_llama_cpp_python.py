"""llama-cpp-python's server: the logprobs of given texts, by echo."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from harness.clients import Client, Limits, MemoryKeeper, Request, assemble, connect
from harness.errors import AuthenticationFailed, ContextTooLong, MissingLogprobs
from harness.questions.messages import Message

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

OPENING = "Once upon a time, there was a little girl named Lily."
NAME = "openai-api/llama/tiny"
KEY = "sk-servers-8f3b2c7d9e"


@pytest.fixture
async def connected(llama_cpp_python: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Client]]:
    monkeypatch.setenv("LLAMA_API_KEY", KEY)
    clients: list[Client] = []

    def connecting(**settings: Any) -> Client:
        clients.append(connect(NAME, {"base_url": f"{llama_cpp_python}/v1", **settings}))
        return clients[-1]

    yield connecting
    for client in clients:
        await client.aclose()


def greedy(text: str = OPENING, tokens: int = 12, **options: Any) -> Request:
    return Request((Message("user", text),), tokens, 0.0, **options)


@pytest.mark.parametrize(("api", "after"), [("chat", " "), ("completions", "\n\n")])
async def test_logprobs_of_what_it_writes_are_those_of_torch(
    connected: Callable[..., Client], reference: Any, api: str, after: str
) -> None:
    # it penalises repetition unless told otherwise, and is not greedy then at a temperature of 0
    reply = await connected(api=api, extra={"repeat_penalty": 1.0}).generate(greedy(top_logprobs=4))
    expected = reference.greedy(OPENING + after, 12)
    assert reply.logprobs is not None
    assert [item.token for item in reply.logprobs] == [token.text for token in expected]
    for item, token in zip(reply.logprobs, expected, strict=True):
        assert item.logprob == pytest.approx(token.logprob, abs=0.01)
        assert len(item.top) >= 4
        for text, logprob in item.top:
            assert logprob == pytest.approx(token.all[text], abs=0.01)
    assert (reply.finish, reply.usage.output) == ("length", 12)


@pytest.mark.parametrize(
    ("before", "continuation"),
    [
        ("Once upon a time", " there was a little dog."),
        ("Lily and Tim went to the park.", "They saw a big tree"),
        ("She said", ' "I like your hat!" and smiled.\nThe end.'),
        ("A", "1, 0, 1"),
        ("A caf", "é \U0001f600 naïve"),
    ],
)
async def test_logprobs_of_a_given_text_are_those_of_torch(
    connected: Callable[..., Client], reference: Any, before: str, continuation: str
) -> None:
    client = connected(api="completions")
    request = Request((Message("user", before),), 0, top_logprobs=3, continuation=continuation)
    reply = await client.generate(request)
    expected = reference.given(before, continuation)
    assert reply.logprobs is not None
    assert len(reply.logprobs) == len(expected)
    for item, token in zip(reply.logprobs, expected, strict=True):
        assert item.logprob == pytest.approx(token.logprob, abs=0.01)
        # a byte of a character has no text of its own here
        assert item.token == token.text or token.text.startswith("<0x")
        assert max(value for _, value in item.top) == pytest.approx(max(token.all.values()), abs=0.01)
    assert reply.text == continuation


async def test_a_text_by_itself_is_told_from_its_second_token_on(
    connected: Callable[..., Client], reference: Any
) -> None:
    reply = await connected(api="completions").generate(Request((), 0, continuation=OPENING))
    expected = reference.given("", OPENING)
    assert reply.logprobs is not None
    assert math.isnan(reply.logprobs[0].logprob)
    given = [item.logprob for item in reply.logprobs[1:]]
    assert given == pytest.approx([token.logprob for token in expected[1:]], abs=0.01)


async def test_chat_completions_give_no_logprobs_of_a_given_text(connected: Callable[..., Client]) -> None:
    with pytest.raises(MissingLogprobs, match='api = "completions"'):
        await connected().generate(Request((Message("user", "Hi"),), 0, continuation=" there"))


async def test_32_texts_at_once_have_the_logprobs_of_one_by_one(connected: Callable[..., Client]) -> None:
    client = assemble(connected(api="completions"), MemoryKeeper(), limits=Limits(32))
    texts = [f" On day {number} they found {number * 7} shells." for number in range(32)]
    found: dict[str, list[float]] = {}

    async def one(text: str) -> None:
        reply = await client.generate(Request((Message("user", OPENING),), 0, continuation=text))
        found[text] = [item.logprob for item in reply.logprobs or ()]

    async with anyio.create_task_group() as group:
        for text in texts:
            group.start_soon(one, text)
    alone = connected(api="completions")
    for text in texts[::8]:
        reply = await alone.generate(Request((Message("user", OPENING),), 0, continuation=text))
        assert found[text] == pytest.approx([item.logprob for item in reply.logprobs or ()], abs=1e-3)
    assert len(found) == 32


async def test_a_prompt_that_does_not_fit_is_told_by_name(connected: Callable[..., Client]) -> None:
    for api in ("chat", "completions"):
        with pytest.raises(ContextTooLong):
            await connected(api=api).generate(greedy(OPENING * 100))


async def test_a_wrong_key_is_told_by_name(connected: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_API_KEY", "sk-wrong-0123456789")
    with pytest.raises(AuthenticationFailed) as caught:
        await connected().generate(greedy())
    assert "sk-wrong" not in str(caught.value)


async def test_the_limit_is_sent_in_the_field_that_it_knows(connected: Callable[..., Client]) -> None:
    # max_completion_tokens, which it does not heed, would let it write to the end of its context
    reply = await connected().generate(greedy(tokens=3))
    assert (reply.finish, reply.usage.output) == ("length", 3)
