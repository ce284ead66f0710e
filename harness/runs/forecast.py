"""What a plan says: calls, tokens and dollars by stage and arm, done and to come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["Cost", "Forecast", "Line", "Offer", "Range"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What was charged: calls (attempts), tokens of all kinds, and dollars, None where a price is not known."""

    calls: int = 0
    tokens: int = 0
    dollars: float | None = 0.0

    def __add__(self, other: Cost) -> Cost:
        known = self.dollars is not None and other.dollars is not None
        dollars = (self.dollars or 0) + (other.dollars or 0) if known else None
        return Cost(self.calls + other.calls, self.tokens + other.tokens, dollars)


@dataclass(frozen=True, slots=True)
class Range:
    """An expected value with its 90 % interval."""

    expected: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def beyond(self, known: float) -> Range:
        """The same on top of what is known."""
        return Range(self.expected + known, self.low + known, self.high + known)

    def times(self, factor: float) -> Range:
        """The same times a factor."""
        return Range(self.expected * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Line:
    """One arm's requests to one model: what was charged so far (`done`), and what is still to come.

    `stage` is `explain`, `score` or `probe`. `heard` is how many answered requests the numbers rest on. `free` ones go
    to a client without a language model: they are counted, and cost nothing. `dollars` is None where no price is known.
    """

    stage: str
    arm: str
    model: str
    done: Cost
    calls: Range
    tokens: Range
    dollars: Range | None
    heard: int = 0
    free: bool = False

    @property
    def ending(self) -> tuple[Range, Range, Range | None]:
        """Calls, tokens and dollars once all is done."""
        known = self.dollars, self.done.dollars
        dollars = None if known[0] is None or known[1] is None else known[0].beyond(known[1])
        return self.calls.beyond(self.done.calls), self.tokens.beyond(self.done.tokens), dollars


@dataclass(frozen=True, slots=True)
class Offer:
    """What a model whose provider has a batch API still costs, live and by batch; `batch` is how the task has it."""

    model: str
    batch: bool
    live: Range
    by_batch: Range


@dataclass(frozen=True)
class Forecast:
    """What a run would ask and cost.

    `total` leaves the free lines out, and has in `done` all that was charged in the run directory, for earlier tasks
    too. `latents` are the chosen ones, `todo` of which are not done; `rehearsed` of these were rendered to the last
    prompt, the others are taken to be like them. `notes` are sentences that a person should read; `offers` are the
    models with a batch API and a known price.
    """

    task: str
    directory: Path
    lines: tuple[Line, ...]
    total: Line
    latents: int
    todo: int
    rehearsed: int
    notes: tuple[str, ...]
    offers: tuple[Offer, ...] = ()

    def table(self) -> pd.DataFrame:
        """A row for each line.

        Columns: stage, arm, model, free, heard; `calls_done`, `tokens_done`, `dollars_done`; and of what is to come
        `calls`, `tokens` and `dollars`, each with the ends of its 90 % interval in `_low` and `_high`.
        """
        return pd.DataFrame([_row(line) for line in self.lines], columns=list(_row(self.total)))


def _row(line: Line) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(line, name) for name in ("stage", "arm", "model", "free", "heard")}
    for name in ("calls", "tokens", "dollars"):
        row[f"{name}_done"] = getattr(line.done, name)
        found = getattr(line, name)
        row[name] = None if found is None else found.expected
        row[f"{name}_low"] = None if found is None else found.low
        row[f"{name}_high"] = None if found is None else found.high
    return row
