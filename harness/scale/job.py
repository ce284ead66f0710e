"""What a worker of a run is given, what it tells while it is at it, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.clients.budget import RunBudget
from harness.clients.ledger import Amount
from harness.clients.lending import Counter
from harness.clients.shared import MoneyLender, TurnLender
from harness.errors import HarnessError
from harness.task import Task

__all__ = ["Account", "Hub", "Job", "Report"]


@dataclass(frozen=True, slots=True)
class Job:
    """Part `number` of `count` of a run; `folder` is the working directory that relative paths start from.

    `hub` and `accounts` are handles of the actors that all workers share; `limited` says that there is a limit of
    money.
    """

    task: Task
    directory: Path
    folder: Path
    beneath: Path
    limit: int | None
    number: int
    count: int
    hub: Any
    accounts: Mapping[str, Any]
    limited: bool


@dataclass(frozen=True, slots=True)
class Report:
    """How a part ended: what stopped it, or the mistake that was found; and the CPU seconds that it took."""

    stopped_by: str | None = None
    mistake: HarnessError | None = None
    cpu: float = 0.0


class Account(Counter):
    """The turns of one account, for all workers."""

    def __init__(self, requests: int) -> None:
        super().__init__(TurnLender(requests))


class Hub(Counter):
    """The money of a run, for all workers; who is at work and how far; and whether they are to stop."""

    def __init__(self, dollars: float | None, tokens: int | None, spent: Amount) -> None:
        super().__init__(MoneyLender(RunBudget(dollars, tokens, spent)))
        self._wished = False
        self._latents: dict[int, int] = {}
        self._visits: dict[int, list[str]] = {}

    async def beat(self, number: int, visit: str, latents: int) -> bool:
        """A worker tells how many latents it is done with; whether it is to stop."""
        self._latents[number] = latents
        visits = self._visits.setdefault(number, [])
        if visit not in visits:
            visits.append(visit)
        return self._wished

    async def stop(self) -> None:
        """Let all workers stop."""
        self._wished = True

    async def state(self) -> tuple[int, dict[int, int]]:
        """How many latents are done, and how often each worker began."""
        return sum(self._latents.values()), {number: len(visits) for number, visits in self._visits.items()}
