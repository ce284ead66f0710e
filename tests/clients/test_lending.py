"""A counter's limits hold for all customers together, whatever becomes of each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack

import anyio
import anyio.lowlevel
import pytest

from harness.clients import Limits, RunBudget
from harness.clients.ledger import Amount
from harness.clients.lending import Counter, Desk, Event, Loan
from harness.clients.shared import MoneyLender, SharedBudget, SharedGate, SharedLimits, TurnLender
from harness.clients.throttle import Outcome
from harness.errors import Drained, OverBudget, RateLimited, RunEnding, TaskError

pytestmark = pytest.mark.anyio

REPLIED = Outcome("replied", input=1, output=1)


class Direct:
    """A line to a counter in the same process; cut off, it fails as that of a process which is gone."""

    def __init__(self, counter: Counter, name: str, visit: str = "first") -> None:
        self._counter = counter
        self._who = (name, visit)
        self.messages = 0
        self.cut = False

    async def enter(self) -> None:
        await self._counter.enter(*self._who)

    async def leave(self) -> None:
        await self._counter.leave(self._who[0])

    async def tell(self, events: Sequence[Event]) -> None:
        await anyio.lowlevel.checkpoint()
        if self.cut:
            raise ConnectionError("cut")
        self.messages += 1
        await self._counter.tell(*self._who, events)

    async def news(self) -> Sequence[Loan]:
        return await self._counter.news(*self._who)


def gate(desk: Desk, requests: int | None = None) -> SharedGate:
    return SharedGate(desk, "m", requests, None, None)


async def test_turns_of_all_customers_together_stay_within_the_limit_and_few_messages_pass() -> None:
    counter, flying, most, done = Counter(TurnLender(6)), 0, 0, 0

    async def one(mine: SharedGate, seed: int) -> None:
        nonlocal flying, most, done
        ticket = await mine.acquire((10, 10))
        flying += 1
        most = max(most, flying)
        for _ in range(random.Random(seed).randrange(1, 6)):
            await anyio.lowlevel.checkpoint()
        flying -= 1
        mine.release(ticket, REPLIED)
        done += 1

    lines = [Direct(counter, str(name)) for name in range(3)]
    async with AsyncExitStack() as stack:
        gates = [gate(await stack.enter_async_context(Desk(line))) for line in lines]
        async with anyio.create_task_group() as group:
            for seed in range(300):
                group.start_soon(one, gates[seed % 3], seed)
        assert [mine.wanted for mine in gates] == [0, 0, 0]
        assert sum(mine.successes for mine in gates) == done == 300
    assert most == 6
    assert sum(line.messages for line in lines) < 300  # where one each for asking and giving back would be 600


async def test_what_a_lost_customer_held_is_free_again_and_its_old_visit_is_not_heard() -> None:
    counter = Counter(TurnLender(2))
    old = Direct(counter, "a", "first")
    async with Desk(Direct(counter, "b")) as other, Desk(old) as lost:
        for _ in range(2):
            await gate(lost).acquire()
        with anyio.move_on_after(0.05) as scope:
            await gate(other).acquire()
        assert scope.cancelled_caught
        # its process is killed and begins again
        async with Desk(Direct(counter, "a", "second")) as again:
            first = await gate(other).acquire()
            second = await gate(again).acquire()
            with pytest.raises(RunEnding, match="cannot be reached"):
                await gate(lost).acquire()
            gate(other).release(first, REPLIED)
            gate(again).release(second, REPLIED)


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    counter = Counter(TurnLender(1))
    async with Desk(Direct(counter, "a")) as desk, anyio.create_task_group() as group:
        mine = gate(desk)
        ticket = await mine.acquire()
        group.start_soon(mine.acquire)
        group.start_soon(mine.acquire)
        await anyio.wait_all_tasks_blocked()
        assert mine.wanted == 3
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            mine.release(ticket, REPLIED)
            await mine.acquire()
            assert mine.wanted == 1


async def test_who_waits_is_turned_away_once_the_customer_stops() -> None:
    stopping = False
    counter = Counter(TurnLender(1))
    async with Desk(Direct(counter, "a"), lambda: stopping) as desk:
        mine = gate(desk)
        ticket = await mine.acquire()
        waiting = asyncio.create_task(mine.acquire())
        await anyio.wait_all_tasks_blocked()
        stopping = True
        with pytest.raises(Drained):
            await waiting
        mine.release(ticket, REPLIED)


async def test_a_counter_that_is_gone_ends_the_run() -> None:
    counter = Counter(TurnLender(1))
    line = Direct(counter, "a")
    async with Desk(line) as desk:
        mine = gate(desk)
        await mine.acquire()
        line.cut = True
        with pytest.raises(RunEnding, match="all workers share cannot be reached: cut"):
            await mine.acquire()
        with pytest.raises(RunEnding, match="cut"):
            await mine.acquire()


async def test_what_the_provider_asks_of_one_holds_for_all() -> None:
    counter = Counter(TurnLender(8, patience=1.0))
    async with Desk(Direct(counter, "a")) as one, Desk(Direct(counter, "b")) as other:
        refused = gate(one)
        refused.release(await refused.acquire(), Outcome("refused", 3600.0, "come back in an hour"))
        with pytest.raises(RateLimited, match="asks to wait for 3600 s"):
            await gate(other).acquire()
        assert refused.describe() == "m: 0 in flight, 0 waiting for a turn in this worker; the last error: " + (
            "come back in an hour"
        )


async def test_money_of_all_customers_together_never_passes_the_limit() -> None:
    whole = RunBudget(dollars=1.0)
    counter, refused, spent = Counter(MoneyLender(whole)), 0, 0.0
    draw = random.Random(5)
    # equal amounts, too
    plans = [(draw.choice((0.01, 0.02, 0.08)), draw.uniform(0, 1), draw.randrange(1, 5)) for _ in range(200)]

    async def one(mine: SharedBudget, most: float, share: float, steps: int) -> None:
        nonlocal refused, spent
        try:
            await mine.reserve(Amount(1, most))
        except OverBudget:
            refused += 1
            return
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        spent += share * most
        mine.settle(Amount(1, most), Amount(1, share * most))

    async with AsyncExitStack() as stack:
        desks = [await stack.enter_async_context(Desk(Direct(counter, str(name)))) for name in range(4)]
        budgets = [SharedBudget(desk) for desk in desks]
        async with anyio.create_task_group() as group:
            for number, plan in enumerate(plans):
                group.start_soon(one, budgets[number % 4], *plan)
    assert refused > 0
    assert 0.9 < spent <= 1.0
    # what was charged last is told, too
    assert whole.spent.dollars == pytest.approx(spent)
    assert sum(mine.spent.dollars or 0 for mine in budgets) == pytest.approx(spent)


async def test_what_a_lost_customer_set_aside_stays_charged() -> None:
    whole = RunBudget(tokens=100)
    counter = Counter(MoneyLender(whole))
    async with Desk(Direct(counter, "a")) as lost:
        budget = SharedBudget(lost)
        await budget.reserve(Amount(30, None))
        await budget.reserve(Amount(30, None))
        budget.settle(Amount(30, None), Amount(10, None))
        await anyio.wait_all_tasks_blocked()
        await counter.enter("a", "second")
        assert whole.spent.tokens == 10 + 30


async def test_an_account_that_nobody_lends_turns_of_is_a_mistake_of_the_host() -> None:
    shared: Limits = SharedLimits({})
    with pytest.raises(TaskError, match="gpt: this worker reaches it with another key or at another address"):
        shared.gate("account", "gpt")
