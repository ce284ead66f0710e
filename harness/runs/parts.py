"""How a run is shared out: what a worker does of it, and what whoever has the workers is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from harness.clients import Budget, Limits
from harness.clients.ledger import Amount
from harness.runs.progress import Progress
from harness.runs.stop import Stop
from harness.task import CoderSettings, SubjectSettings, Task

__all__ = ["Collecting", "Crew", "MeteredBudget", "Order", "Part", "cut"]

T = TypeVar("T")


class MeteredBudget(Budget, Protocol):
    """A budget that knows what was charged to it."""

    @property
    def spent(self) -> Amount:
        """What was charged so far."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A worker's part of a run: stretch `number` of `count` of each coder's latents.

    `limits` and `budget` are those of all workers together, `beneath` is a copy of the journal of what was done before.
    """

    number: int
    count: int
    limits: Limits
    budget: MeteredBudget
    beneath: Path

    def of(self, latents: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
        """The latents of this part, by coder."""
        return {name: cut(indexes, self.number, self.count) for name, indexes in latents.items()}


@dataclass(frozen=True, slots=True)
class Order:
    """A run that is ready to be shared out: all is collected and learned that its workers look up.

    `latents` is how many there are in all and `limit` the most of each coder; `accounts` are those that its models ask,
    `spent` is what was spent before, and `gpus` how many each worker needs.
    """

    task: Task
    directory: Path
    latents: int
    limit: int | None
    gpus: int
    accounts: Sequence[str]
    spent: Amount
    progress: Progress
    stop: Stop


@dataclass(frozen=True, slots=True)
class Collecting:
    """A store that is to be collected: of which subject and coders, where, and what relative paths start from."""

    subject: SubjectSettings
    coders: tuple[CoderSettings, ...]
    out: Path
    base: Path


class Crew(Protocol):
    """Whoever has workers."""

    async def collect(self, collecting: Collecting, progress: Progress, stop: Stop) -> None:
        """Have workers collect as much of a store as they can.

        What they leave is collected afterwards by the process that began the run.

        Raises:
            UserError: something in the settings does not fit.
        """
        ...

    async def work(self, order: Order) -> None:
        """Have workers do as much of a run as they can, and merge their journals into its journal.

        What they leave is done afterwards by the process that began the run.

        Raises:
            UserError: a worker found that something is wrong; what was done is merged.
        """
        ...


def cut(items: Sequence[T], number: int, count: int) -> Sequence[T]:
    """Stretch `number` of `count` nearly equal ones, from 0 on."""
    return items[len(items) * number // count : len(items) * (number + 1) // count]
