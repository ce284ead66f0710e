"""Gates and a budget that several processes share: a counter lends turns or money, and clients take them as usual."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.clients.budget import RunBudget
from harness.clients.gate import Gate, Watch
from harness.clients.headers import HeardLimit
from harness.clients.ledger import Amount
from harness.clients.lending import Desk
from harness.clients.limit import Limits
from harness.clients.throttle import Outcome
from harness.errors import TaskError

__all__ = ["MoneyLender", "SharedBudget", "SharedGate", "SharedLimits", "Turn", "TurnLender"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What is asked of a `TurnLender`: a turn at a model's gate, and what the gate is made of if it is the first."""

    model: str
    requests: int | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    tokens: tuple[int, int]
    again: bool


class TurnLender:
    """Lends turns at the gates of one account; arguments as those of `Limits`."""

    def __init__(self, requests: int = 64, *, patience: float = 900.0) -> None:
        self._limits = Limits(requests, patience=patience)

    async def lend(self, wish: Turn) -> tuple[Gate, int]:
        """Wait for a turn.

        Raises:
            RateLimited: the provider asked for a longer wait than anybody's patience.
        """
        gate = self._limits.gate("", wish.model, wish.requests, wish.requests_per_minute, wish.tokens_per_minute)
        assert isinstance(gate, Gate)
        return gate, await gate.acquire(wish.tokens, again=wish.again)

    def back(self, lent: tuple[Gate, int], how: Outcome) -> None:
        """A request has ended."""
        gate, ticket = lent
        gate.release(ticket, how)

    def unused(self, lent: tuple[Gate, int]) -> None:
        """A request was not sent."""
        self.back(lent, Outcome("unsent"))

    def lost(self, lent: tuple[Gate, int]) -> None:
        """Whoever sent a request is gone: its slot is free."""
        self.back(lent, Outcome("failed"))

    def told(self, lent: tuple[Gate, int], what: Mapping[str, HeardLimit]) -> None:
        """What the headers of a response say of limits."""
        gate, ticket = lent
        gate.hear(ticket, what)


class MoneyLender:
    """Lends what a budget has; what was lent to somebody who is gone counts as spent."""

    def __init__(self, budget: RunBudget) -> None:
        self._budget = budget

    async def lend(self, wish: Amount) -> Amount:
        """Set an amount aside.

        Raises:
            OverBudget: it does not fit, whatever becomes of what is set aside.
        """
        await self._budget.reserve(wish)
        return wish

    def back(self, lent: Amount, how: Amount) -> None:
        """Give back what was set aside and count what was charged."""
        self._budget.settle(lent, how)

    def unused(self, lent: Amount) -> None:
        """Nothing of it was spent."""
        self._budget.settle(lent, Amount())

    def lost(self, lent: Amount) -> None:
        """Whether it was spent is not known, so it was."""
        self._budget.settle(lent, lent)

    def told(self, lent: Amount, what: object) -> None:
        """Of money there is nothing to tell."""


class SharedGate(Watch):
    """A limiter that asks for its turns at a desk, and watches over its own requests."""

    counts_tokens = True  # whether any limit is of tokens is known where the turns are lent

    def __init__(
        self,
        desk: Desk,
        model: str,
        requests: int | None,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(model, clock)
        self._desk = desk
        self._made_of = (model, requests, requests_per_minute, tokens_per_minute)
        self._flying = self._waiting = 0

    @property
    def wanted(self) -> int:
        """Requests of this process in flight, waiting for a turn and between two attempts."""
        return self._flying + self._waiting + self._backing_off

    def stop_when(self, stopping: Callable[[], bool]) -> None:
        """Who waits is turned away by the desk, which knows when."""

    async def acquire(self, tokens: tuple[int, int] = (0, 0), *, again: bool = False) -> int:
        """Wait for a turn and take it; see `Limiter`.

        Raises:
            RateLimited: the provider asked for a longer wait than anybody's patience.
            Drained: the run is stopping.
            RunEnding: whoever lends the turns is gone.
        """
        self._waiting += 1
        try:
            ticket = await self._desk.take(Turn(*self._made_of, tokens, again))
        finally:
            self._waiting -= 1
        self._flying += 1
        return ticket

    def release(self, ticket: int, outcome: Outcome) -> None:
        """Give the turn back and say what came of it."""
        self._flying -= 1
        self._ended(outcome, self._clock())
        self._desk.back(ticket, outcome)

    def hear(self, ticket: int, limits: Mapping[str, HeardLimit]) -> None:
        """What the headers of a response say of limits."""
        self._desk.say(ticket, limits)

    def describe(self) -> str:
        """One line on what its requests wait for."""
        return self._told([f"{self._flying} in flight", f"{self._waiting} waiting for a turn"], " in this worker")


class SharedLimits(Limits):
    """Limits whose gates are shared with other processes; `desks` are by account."""

    def __init__(self, desks: Mapping[str, Desk]) -> None:
        super().__init__()
        self._desks = desks

    def _made(
        self,
        account: str,
        model: str,
        requests: int | None,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
    ) -> SharedGate:
        if account not in self._desks:
            raise TaskError(
                f"{model}: this worker reaches it with another key or at another address than the process that began "
                "the run: set the same variables on every host"
            )
        return SharedGate(self._desks[account], model, requests, requests_per_minute, tokens_per_minute)


class SharedBudget:
    """A budget that asks for money at a desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._taken: defaultdict[Amount, list[int]] = defaultdict(list)
        self.spent = Amount()

    async def reserve(self, amount: Amount) -> None:
        """Set an amount aside; see `Budget`.

        Raises:
            OverBudget: it does not fit, whatever becomes of what is set aside.
            RunEnding: whoever keeps the budget is gone.
        """
        number = await self._desk.take(amount)
        self._taken[amount].append(number)

    def settle(self, reserved: Amount, charged: Amount) -> None:
        """Give back what was set aside and count what was charged."""
        self.spent += Amount(charged.tokens, charged.dollars or 0.0)
        # any number that so much was set aside under will do
        numbers = self._taken[reserved]
        self._desk.back(numbers.pop(), charged)
        if not numbers:
            del self._taken[reserved]
