from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from harness.clients.gate import Gate
from harness.clients.throttle import Outcome
from harness.errors import Drained, RateLimited
from harness.testing import VirtualClock

pytestmark = pytest.mark.anyio

REPLIED = Outcome("replied", input=10, output=10)


@asynccontextmanager
async def running(clock: VirtualClock) -> AsyncIterator[anyio.abc.TaskGroup]:
    """A task group for callers, with the clock going beside it."""
    async with anyio.create_task_group() as outer:
        outer.start_soon(clock.run)
        async with anyio.create_task_group() as group:
            yield group
        outer.cancel_scope.cancel()


def holding(gate: Gate, clock: VirtualClock, order: list[str], seconds: float) -> Callable[..., Awaitable[None]]:
    async def hold(name: str, tokens: tuple[int, int] = (0, 0), *, again: bool = False) -> None:
        ticket = await gate.acquire(tokens, again=again)
        order.append(name)
        await clock.sleep(seconds)
        gate.release(ticket, REPLIED)

    return hold


async def test_turns_come_in_order_and_those_tried_again_first(clock: VirtualClock) -> None:
    gate = Gate(1, sleep=clock.sleep, clock=clock)
    order: list[str] = []
    hold = holding(gate, clock, order, 1.0)
    async with running(clock) as group:
        for name in "abcd":
            group.start_soon(hold, name)
        await clock.sleep(0.5)
        for name in "yz":
            group.start_soon(lambda name=name: hold(name, again=True))
    assert order == ["a", "y", "z", "b", "c", "d"]


async def test_a_free_slot_is_taken_without_waiting(clock: VirtualClock) -> None:
    gate = Gate(2, sleep=clock.sleep, clock=clock)
    tickets = [await gate.acquire(), await gate.acquire()]
    assert gate.wanted == 2
    for ticket in tickets:
        gate.release(ticket, REPLIED)
    assert gate.wanted == 0
    assert clock() == 0.0


@pytest.mark.parametrize("seed", range(10))
async def test_no_cancellation_loses_a_slot_or_a_wake_up(seed: int, clock: VirtualClock) -> None:
    chance = random.Random(seed)
    gate = Gate(5, sleep=clock.sleep, clock=clock, requests_per_minute=chance.choice([None, 600.0]))
    done = cancelled = 0

    async def one(starts: float, holds: float, leaves: float, outcome: Outcome) -> None:
        nonlocal done, cancelled
        await clock.sleep(starts)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def leave() -> None:
                    await clock.sleep(leaves)
                    scope.cancel()

                group.start_soon(leave)
                ticket = await gate.acquire(again=chance.random() < 0.2)
                try:
                    await clock.sleep(holds)
                except BaseException:
                    gate.release(ticket, Outcome("failed"))
                    raise
                gate.release(ticket, outcome)
                group.cancel_scope.cancel()
        if scope.cancel_called:
            cancelled += 1
        else:
            done += 1

    with anyio.fail_after(20):
        async with running(clock) as group:
            for _ in range(300):
                # whole tenths, so that turns and cancellations often fall on the same moment
                starts, holds = chance.randrange(30) / 10, chance.randrange(1, 10) / 10
                leaves = chance.choice([chance.randrange(1, 60) / 10, 1000.0])
                outcome = Outcome("refused", chance.random()) if chance.random() < 0.05 else REPLIED
                group.start_soon(one, starts, holds, leaves, outcome)
    assert done + cancelled == 300
    assert cancelled > 50
    assert done > 50
    assert gate.wanted == 0
    order: list[str] = []
    async with running(clock) as group:
        for name in "abcdefghij":
            group.start_soon(holding(gate, clock, order, 0.1), name)
    assert sorted(order) == list("abcdefghij")


async def test_when_the_request_that_keeps_the_queue_is_cancelled_another_does(clock: VirtualClock) -> None:
    gate = Gate(5, sleep=clock.sleep, clock=clock)
    gate.release(await gate.acquire(), Outcome("refused", 10.0))
    order: list[str] = []
    async with running(clock) as group:
        scope = anyio.CancelScope()

        async def leaving() -> None:
            with scope:
                await gate.acquire()

        group.start_soon(leaving)
        await clock.sleep(1.0)
        group.start_soon(holding(gate, clock, order, 0.0), "stays")
        await clock.sleep(1.0)
        scope.cancel()
    assert order == ["stays"]
    assert 10.0 <= clock() < 10.5


async def test_whoever_waits_is_turned_away_once_the_run_stops(clock: VirtualClock) -> None:
    stopping = False
    gate = Gate(1, sleep=clock.sleep, clock=clock)
    gate.stop_when(lambda: stopping)
    turned_away = 0

    async def one() -> None:
        nonlocal turned_away
        with pytest.raises(Drained):
            await gate.acquire()
        turned_away += 1

    async with running(clock) as group:
        ticket = await gate.acquire()
        for _ in range(20):
            group.start_soon(one)
        await clock.sleep(1.0)
        stopping = True
        await clock.sleep(1.0)
        # long before the slot is free
        assert turned_away == 20
        gate.release(ticket, REPLIED)
    assert gate.wanted == 0


async def test_a_wait_beyond_patience_fails_all_who_wait(clock: VirtualClock) -> None:
    gate = Gate(1, model="m", patience=100.0, sleep=clock.sleep, clock=clock)
    failed = 0

    async def one() -> None:
        nonlocal failed
        with pytest.raises(RateLimited, match="asks to wait for 5000 s"):
            await gate.acquire()
        failed += 1

    async with running(clock) as group:
        ticket = await gate.acquire()
        for _ in range(5):
            group.start_soon(one)
        await clock.sleep(1.0)
        gate.release(ticket, Outcome("refused", 5000.0))
    assert failed == 5
    assert clock() == 1.0


async def test_requests_of_a_known_rate_are_spaced(clock: VirtualClock) -> None:
    gate = Gate(50, requests_per_minute=60.0, sleep=clock.sleep, clock=clock)
    order: list[str] = []
    async with running(clock) as group:
        for number in range(11):
            group.start_soon(holding(gate, clock, order, 0.0), str(number))
    assert order == [str(number) for number in range(11)]
    assert 10.0 <= clock() <= 10.6


async def test_tokens_are_held_to_their_rate_and_expectations_corrected(clock: VirtualClock) -> None:
    # 1,000 tokens a minute; requests expect 1,000 and use 20, which is learned
    gate = Gate(50, tokens_per_minute=1_000.0, sleep=clock.sleep, clock=clock)
    order: list[str] = []
    assert gate.counts_tokens
    for number in range(40):
        async with running(clock) as group:
            group.start_soon(lambda number=number: holding(gate, clock, order, 0.1)(str(number), (500, 500)))
    assert len(order) == 40
    assert 30.0 < clock() < 100.0  # 40 times 20 tokens take 48 s


async def test_what_waits_is_told_in_a_line(clock: VirtualClock) -> None:
    gate = Gate(1, model="gpt", sleep=clock.sleep, clock=clock)
    first = await gate.acquire()
    gate.release(first, Outcome("refused", 30.0, "https://host answered 429: slow down"))
    async with running(clock) as group:
        group.start_soon(holding(gate, clock, [], 0.0), "a")
        await clock.sleep(10.0)
        with gate.backing_off():
            assert gate.wanted == 2
            assert gate.describe() == (
                "gpt: 0 in flight, 1 in the queue, 1 to be tried again; closed for another 20 s; "
                "the last error: https://host answered 429: slow down"
            )
