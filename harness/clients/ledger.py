"""What every request cost: attempts are written down before they are sent, and what they cost once that is known."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Protocol

from harness.clients.purpose import Purpose
from harness.values import Usage

__all__ = ["Amount", "Attempt", "Ledger", "new_id", "total_tokens"]


# seeded by the system, apart from any seed of a task
_chance = random.Random()


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens of all kinds, and dollars; `dollars` is None where no price is known."""

    tokens: int = 0
    dollars: float | None = 0.0

    def __add__(self, other: Amount) -> Amount:
        known = self.dollars is not None and other.dollars is not None
        return Amount(self.tokens + other.tokens, (self.dollars or 0) + (other.dollars or 0) if known else None)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a request.

    `id` is 32 hex digits that are no other attempt's anywhere, and that of a later one comes later: rows that are
    written one after the other lie beside one another. `request` is the request's key, `reserved` an upper bound of
    what it can cost.
    """

    id: str
    request: str
    model: str
    purpose: Purpose
    reserved: Amount


class Ledger(Protocol):
    """Where attempts are written down; a run's journal is one."""

    async def reserve(self, attempt: Attempt) -> None:
        """Commit that an attempt is about to be made; until it is settled it counts with what it reserves."""
        ...

    def settle(self, attempt: Attempt, outcome: str, charged: Amount, usage: Usage | None, seconds: float) -> None:
        """Note how an attempt ended, soon to be committed.

        `outcome` is `ok` or the kind of error, `charged` what it counts with from now on, `usage` what the provider
        told, and `seconds` how long it took.
        """
        ...


def new_id() -> str:
    """An id for an attempt: the time in milliseconds since 1970, and chance."""
    return f"{time.time_ns() // 1_000_000:012x}{_chance.getrandbits(80):020x}"


def total_tokens(usage: Usage) -> int:
    """All tokens of a usage."""
    return usage.input + usage.cache_read + usage.cache_write + usage.output
