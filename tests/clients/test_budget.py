from __future__ import annotations

import random

import anyio
import anyio.lowlevel
import pytest

from harness.clients.budget import RunBudget
from harness.clients.ledger import Amount
from harness.errors import OverBudget

pytestmark = pytest.mark.anyio


async def test_what_fits_is_set_aside_at_once_and_what_can_never_fit_is_refused() -> None:
    budget = RunBudget(dollars=1.0)
    await budget.reserve(Amount(10, 0.75))
    with pytest.raises(OverBudget, match=r"\$0.0000 of \$1.00 are spent, .* may cost \$1.5000; raise limits.spend"):
        await budget.reserve(Amount(10, 1.5))
    budget.settle(Amount(10, 0.75), Amount(4, 0.5))
    assert budget.spent == Amount(4, 0.5)
    await budget.reserve(Amount(1, 0.5))


async def test_tokens_are_limited_too() -> None:
    budget = RunBudget(tokens=100, spent=Amount(90, 0.0))
    await budget.reserve(Amount(10, None))
    with pytest.raises(OverBudget, match=r"90 of 100 tokens are spent, .* may take 11; raise limits.tokens"):
        await budget.reserve(Amount(11, None))


async def test_without_limits_nothing_is_refused_and_all_is_counted() -> None:
    budget = RunBudget()
    await budget.reserve(Amount(10**12, None))
    budget.settle(Amount(10**12, None), Amount(7, 0.5))
    assert budget.spent == Amount(7, 0.5)


async def test_a_limit_of_dollars_needs_a_price() -> None:
    with pytest.raises(OverBudget, match="no price is known"):
        await RunBudget(dollars=1.0).reserve(Amount(1, None))


async def test_who_might_fit_later_waits_in_turn() -> None:
    budget = RunBudget(dollars=1.0)
    await budget.reserve(Amount(0, 0.9))
    served: list[str] = []

    async def one(name: str, dollars: float) -> None:
        await budget.reserve(Amount(0, dollars))
        served.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(one, "large", 0.5)
        await anyio.wait_all_tasks_blocked()
        # small enough to fit now, but not before who came first
        group.start_soon(one, "small", 0.1)
        await anyio.wait_all_tasks_blocked()
        assert served == []
        budget.settle(Amount(0, 0.9), Amount(0, 0.2))
    assert served == ["large", "small"]


async def test_who_waits_is_refused_once_it_can_no_longer_fit() -> None:
    budget = RunBudget(dollars=1.0)
    await budget.reserve(Amount(0, 0.9))
    refused: list[str] = []

    async def one() -> None:
        with pytest.raises(OverBudget):
            await budget.reserve(Amount(0, 0.5))
        refused.append("one")

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        budget.settle(Amount(0, 0.9), Amount(0, 0.9))
    assert refused == ["one"]


async def test_who_is_cancelled_while_waiting_holds_up_nobody() -> None:
    budget = RunBudget(dollars=1.0)
    await budget.reserve(Amount(0, 0.6))
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def leaving() -> None:
            with scope:
                await budget.reserve(Amount(0, 0.9))

        group.start_soon(leaving)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(budget.reserve, Amount(0, 0.4))
        await anyio.wait_all_tasks_blocked()
        scope.cancel()


@pytest.mark.parametrize("seed", range(20))
async def test_under_any_load_the_limit_holds_and_everybody_is_answered(seed: int) -> None:
    rng = random.Random(seed)
    limit = 50.0
    budget = RunBudget(dollars=limit)
    reserved, spent, answered = 0.0, 0.0, 0

    async def one(dollars: float) -> None:
        nonlocal reserved, spent, answered
        try:
            await budget.reserve(Amount(1, dollars))
        except OverBudget:
            assert spent + dollars > limit - 1e-9
            answered += 1
            return
        reserved += dollars
        assert spent + reserved <= limit + 1e-9
        for _ in range(rng.randrange(5)):
            await anyio.lowlevel.checkpoint()
        charged = dollars * rng.random()
        reserved -= dollars
        spent += charged
        answered += 1
        budget.settle(Amount(1, dollars), Amount(1, charged))

    async with anyio.create_task_group() as group:
        for _ in range(300):
            group.start_soon(one, rng.uniform(0.1, 3.0))
    assert answered == 300
    assert budget.spent.dollars == pytest.approx(spent)
