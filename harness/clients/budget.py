"""A spending limit that holds: what an attempt may cost is set aside before it is made, and settled when known."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from harness.clients.ledger import Amount
from harness.errors import OverBudget

__all__ = ["Budget", "RunBudget"]


class Budget(Protocol):
    """What may still be spent; plain amounts go in, so that another process can serve it."""

    async def reserve(self, amount: Amount) -> None:
        """Set an amount aside; waits while what others have set aside may yet turn out to be enough.

        Raises:
            OverBudget: it does not fit, whatever becomes of what is set aside.
        """
        ...

    def settle(self, reserved: Amount, charged: Amount) -> None:
        """Give back what was set aside and count what was charged."""
        ...


@dataclass(slots=True, eq=False)
class _Turn:
    amount: Amount
    granted: bool = False
    event: anyio.Event = field(default_factory=anyio.Event)


class RunBudget:
    """The budget of one process: at most `dollars` and `tokens` (None: no limit), of which `spent` is gone already.

    Who waits is served in the order of asking. Every reservation has to be settled, a cancelled request's too.
    """

    def __init__(self, dollars: float | None = None, tokens: int | None = None, spent: Amount | None = None) -> None:
        self._most_dollars = dollars
        self._most_tokens = tokens
        self._tokens = 0 if spent is None else spent.tokens
        self._dollars = 0.0 if spent is None else spent.dollars or 0.0
        self._reserved_tokens = 0
        self._reserved_dollars = 0.0
        self._waiting: deque[_Turn] = deque()

    @property
    def spent(self) -> Amount:
        """What was charged so far, without what is set aside; attempts without a known price count no dollars."""
        return Amount(self._tokens, self._dollars)

    async def reserve(self, amount: Amount) -> None:
        """Set an amount aside, or wait for what others give back.

        Raises:
            OverBudget: it would not fit even if all others cost nothing, or there is no price to tell by.
        """
        if self._most_dollars is None and self._most_tokens is None:
            return
        if not self._waiting and self._fits(amount, self._reserved_tokens, self._reserved_dollars):
            self._take(amount)
            return
        turn = _Turn(amount)
        self._waiting.append(turn)
        self._serve()
        try:
            await turn.event.wait()
        except BaseException:
            if turn.granted:
                self.settle(amount, Amount())
            elif turn in self._waiting:
                self._waiting.remove(turn)
                self._serve()
            raise
        if not turn.granted:
            raise OverBudget(self._sentence(amount))

    def settle(self, reserved: Amount, charged: Amount) -> None:
        """Give back what was set aside and count what was charged."""
        self._tokens += charged.tokens
        self._dollars += charged.dollars or 0.0
        if self._most_dollars is not None or self._most_tokens is not None:
            self._reserved_tokens -= reserved.tokens
            self._reserved_dollars -= reserved.dollars or 0.0
            self._serve()

    def _take(self, amount: Amount) -> None:
        self._reserved_tokens += amount.tokens
        self._reserved_dollars += amount.dollars or 0.0

    def _serve(self) -> None:
        while self._waiting:
            turn = self._waiting[0]
            if self._fits(turn.amount, self._reserved_tokens, self._reserved_dollars):
                turn.granted = True
                self._take(turn.amount)
            elif self._fits(turn.amount, 0, 0.0):
                return
            self._waiting.popleft()
            turn.event.set()

    def _fits(self, amount: Amount, tokens: int, dollars: float) -> bool:
        """Whether there is room for an amount beside what is spent and so much that is set aside."""
        if self._most_tokens is not None and self._tokens + tokens + amount.tokens > self._most_tokens:
            return False
        if self._most_dollars is None:
            return True
        return amount.dollars is not None and self._dollars + dollars + amount.dollars <= self._most_dollars

    def _sentence(self, amount: Amount) -> str:
        if self._most_tokens is not None and self._tokens + amount.tokens > self._most_tokens:
            return (
                f"the budget is used up: {self._tokens:,} of {self._most_tokens:,} tokens are spent, and the next "
                f"request may take {amount.tokens:,}; raise limits.tokens to go on"
            )
        if amount.dollars is None:
            return "there is a limit of dollars (limits.spend) and no price is known for this model"
        return (
            f"the budget is used up: ${self._dollars:.4f} of ${self._most_dollars:.2f} are spent, and the next "
            f"request may cost ${amount.dollars:.4f}; raise limits.spend to go on"
        )
