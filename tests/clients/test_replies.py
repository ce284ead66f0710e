from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from harness.clients import MemoryKeeper, Replies, Reply, Request, assemble, request_key
from harness.clients.wire import Wire
from harness.errors import BadRequest
from harness.testing import MockClient
from harness.values import Usage

pytestmark = pytest.mark.anyio

Ask = Callable[..., Request]


class Recorder(MemoryKeeper):
    """Writes down in which order things were committed; `hold` delays commits."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, str]] = []
        self.hold: anyio.Event | None = None

    async def keep(self, key: str, wire: Wire, reply: Reply) -> None:
        self.events.append(("received", key))
        if self.hold is not None:
            await self.hold.wait()
        await super().keep(key, wire, reply)
        self.events.append(("kept", key))


def tasks() -> list[str]:
    """The calls still running."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("Replies.")]


async def test_a_reply_is_committed_before_anybody_sees_it(ask: Ask) -> None:
    keeper = Recorder()
    request = ask()

    def answer(_: Request) -> str:
        keeper.events.append(("sent", key))
        return "yes"

    mock = MockClient(answer)
    key = request_key(mock, request)
    reply = await Replies(mock, keeper).generate(request)
    assert reply.text == "yes"
    assert [event for event, _ in keeper.events] == ["sent", "received", "kept"]
    assert {seen for _, seen in keeper.events} == {key}


async def test_a_kept_reply_is_not_asked_for_again(ask: Ask) -> None:
    keeper = Recorder()
    first = await Replies(MockClient("first"), keeper).generate(ask())
    other = MockClient("second")
    assert await Replies(other, keeper).generate(ask()) == first
    assert other.requests == []


@pytest.mark.parametrize("finish", ["stop", "length", "refusal"])
async def test_whatever_was_paid_for_is_kept(ask: Ask, finish: Any) -> None:
    mock = MockClient(Reply("", finish, Usage(requests=1)))
    replies = Replies(mock, MemoryKeeper())
    assert await replies.generate(ask()) == await replies.generate(ask())
    assert len(mock.requests) == 1


async def test_errors_are_never_kept(ask: Ask) -> None:
    keeper = Recorder()
    mock = MockClient([BadRequest("no"), "yes"])
    replies = Replies(mock, keeper)
    with pytest.raises(BadRequest):
        await replies.generate(ask())
    assert (await replies.generate(ask())).text == "yes"


async def test_samples_are_requests_of_their_own(ask: Ask) -> None:
    mock = MockClient(["a", "b"])
    replies = Replies(mock, MemoryKeeper())
    assert [(await replies.generate(ask(sample=n))).text for n in (0, 1, 0)] == ["a", "b", "a"]


async def test_different_requests_have_different_keys(ask: Ask) -> None:
    mock = MockClient()
    requests = [
        ask(),
        ask("other"),
        ask(max_tokens=9),
        ask(temperature=0.0),
        ask(seed=1),
        ask(sample=1),
        ask(stop=("x",)),
    ]
    assert len({request_key(mock, request) for request in requests}) == len(requests)
    assert request_key(mock, ask()) == request_key(mock, ask())
    assert request_key(MockClient(name="mock/other"), ask()) != request_key(mock, ask())


async def test_equal_requests_in_flight_share_one_call(ask: Ask) -> None:
    release = anyio.Event()

    async def answer(_: Request) -> str:
        await release.wait()
        return "shared"

    mock = MockClient(answer)
    replies = Replies(mock, MemoryKeeper())
    seen: list[Reply] = []

    async def one() -> None:
        seen.append(await replies.generate(ask()))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert [reply.text for reply in seen] == ["shared"] * 20
    assert len(mock.requests) == 1
    assert not tasks()


async def test_sharers_of_a_failed_call_get_an_error_each(ask: Ask) -> None:
    release = anyio.Event()

    async def answer(_: Request) -> BadRequest:
        await release.wait()
        return BadRequest("no", status=400)

    replies = Replies(MockClient(answer), MemoryKeeper())
    seen: list[BadRequest] = []

    async def one() -> None:
        with pytest.raises(BadRequest, match="no") as caught:
            await replies.generate(ask())
        seen.append(caught.value)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert seen[0] is not seen[1]
    assert seen[0].status == seen[1].status == 400


async def test_a_cancelled_sharer_does_not_take_the_others_with_it(ask: Ask) -> None:
    release = anyio.Event()

    async def answer(_: Request) -> str:
        await release.wait()
        return "alive"

    mock = MockClient(answer)
    replies = Replies(mock, MemoryKeeper())
    scopes: list[anyio.CancelScope] = []
    seen: list[str] = []

    async def one() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            seen.append((await replies.generate(ask())).text)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        scopes[0].cancel()  # the one that began the call
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert seen == ["alive", "alive"]
    assert len(mock.requests) == 1


async def test_a_call_that_nobody_waits_for_is_cancelled(ask: Ask) -> None:
    cancelled: list[bool] = []

    async def answer(_: Request) -> str:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    replies = Replies(MockClient(answer), MemoryKeeper())
    with anyio.CancelScope() as outer:
        async with anyio.create_task_group() as group:
            group.start_soon(replies.generate, ask())
            group.start_soon(replies.generate, ask())
            await anyio.wait_all_tasks_blocked()
            outer.cancel()
    assert cancelled == [True]
    assert not tasks()


async def test_a_reply_that_was_received_is_kept_though_everybody_was_cancelled(ask: Ask) -> None:
    keeper = Recorder()
    keeper.hold = anyio.Event()
    replies = Replies(MockClient("paid for"), keeper)
    with anyio.CancelScope() as outer:
        async with anyio.create_task_group() as group:
            group.start_soon(replies.generate, ask())
            await anyio.wait_all_tasks_blocked()
            outer.cancel()
            keeper.hold.set()
    assert [event for event, _ in keeper.events] == ["received", "kept"]
    assert (await replies.generate(ask())).text == "paid for"


async def test_who_asks_while_a_cancelled_call_still_keeps_its_reply_gets_that_reply(ask: Ask) -> None:
    keeper = Recorder()
    keeper.hold = anyio.Event()
    mock = MockClient(["first", "second"])
    replies = Replies(mock, keeper)
    seen: list[str] = []

    async def late() -> None:
        seen.append((await replies.generate(ask())).text)

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as early:
            async with anyio.create_task_group() as inner:
                inner.start_soon(replies.generate, ask())
                await anyio.wait_all_tasks_blocked()
                early.cancel()
                group.start_soon(late)
                group.start_soon(_set, keeper.hold)
    assert seen == ["first"]
    assert len(mock.requests) == 1


async def test_who_asks_while_a_call_is_being_cancelled_is_not_cancelled_with_it(ask: Ask) -> None:
    release = anyio.Event()

    async def answer(_: Request) -> str:
        if len(mock.requests) > 1:
            return "second"
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await release.wait()
        raise AssertionError

    mock = MockClient(answer)
    replies = Replies(mock, MemoryKeeper())
    seen: list[str] = []

    async def late() -> None:
        seen.append((await replies.generate(ask())).text)

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as early:
            async with anyio.create_task_group() as inner:
                inner.start_soon(replies.generate, ask())
                await anyio.wait_all_tasks_blocked()
                early.cancel()
                group.start_soon(late)
                group.start_soon(_set, release)
    assert seen == ["second"]


async def _set(event: anyio.Event) -> None:
    event.set()


async def test_closing_ends_what_is_in_flight(ask: Ask) -> None:
    async def answer(_: Request) -> str:
        await anyio.sleep_forever()
        raise AssertionError

    mock = MockClient(answer)
    replies = Replies(mock, MemoryKeeper())

    async def one() -> None:
        with pytest.raises(asyncio.CancelledError):
            await replies.generate(ask())

    waiting = asyncio.create_task(one())
    await anyio.wait_all_tasks_blocked()
    await replies.aclose()
    await waiting
    assert mock.closed
    assert not tasks()


async def test_random_cancellations_leak_nothing_and_keep_everything_received(ask: Ask) -> None:
    received: list[str] = []
    dice = random.Random(1)

    async def answer(request: Request) -> str:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        received.append(request.messages[0].content)
        return request.messages[0].content

    keeper = Recorder()
    mock = MockClient(answer)
    replies = Replies(mock, keeper)

    async def one(text: str, patience: int) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_after, scope, patience)
                assert (await replies.generate(ask(text))).text == text
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(400):
            group.start_soon(one, f"question {dice.randrange(60)}", dice.randrange(12))
            if dice.random() < 0.3:
                await asyncio.sleep(0)
    assert not tasks()
    assert len(received) == len(set(received)) == len(keeper.replies), "asked for again though received"
    assert 10 < len(received) <= len(mock.requests)


async def _cancel_after(scope: anyio.CancelScope, steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    scope.cancel()


async def test_a_client_that_sends_nothing_gets_no_retries(ask: Ask) -> None:
    client = assemble(MockClient([BadRequest("no")]), MemoryKeeper())
    assert isinstance(client, Replies)
    with pytest.raises(BadRequest):
        await client.generate(ask())
    assert client.wire(ask()).data()["body"]["model"] == client.name == "mock/model"
