"""What a run spent, out of its ledger: attempt by attempt, and summed by stage, arm and model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.runs.arms import arm_label
from harness.runs.journal import Journal
from harness.runs.journal_rows import StoredAttempt

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SpendingLine", "attempt_frame", "spending"]

_TOLD = tuple(field.name for field in fields(StoredAttempt) if field.name != "id")
_STAGES = ("probe", "explain", "score", "judge", "")


@dataclass(frozen=True, slots=True)
class SpendingLine:
    """The requests of one stage, arm and model.

    `attempts` counts every sending, `failed` those that ended in an error by its kind, and `unknown` those of which
    nothing was ever learned: they are charged with the most that they can have cost. `charged` is all tokens charged;
    `prompt` (of it `cached`), `reply` and `reasoning` are the tokens that the provider told of. `dollars` is None where
    no price is known. `median` and `slowest` are seconds of those that were answered: the median and the 95th
    percentile, None where there are none.
    """

    stage: str
    arm: str
    model: str
    requests: int
    attempts: int
    failed: Mapping[str, int]
    unknown: int
    charged: int
    prompt: int
    cached: int
    reply: int
    reasoning: int
    dollars: float | None
    median: float | None
    slowest: float | None


def spending(journal: Journal) -> list[SpendingLine]:
    """A journal's attempts, those of earlier tasks included, summed by stage, arm and model; first what came first."""
    groups: defaultdict[tuple[str, str, str], list[StoredAttempt]] = defaultdict(list)
    names = _Names(journal)
    for attempt in journal.attempts():
        groups[attempt.stage, names.of(attempt), attempt.model].append(attempt)
    return [_line(*key, groups[key]) for key in sorted(groups, key=lambda key: (_rank(key[0]), *key))]


def attempt_frame(journal: Journal) -> pd.DataFrame:
    """One row an attempt: request (the beginning of its key), for whom, how it ended, what it cost."""
    import pandas as pd

    names = _Names(journal)
    rows = [
        {
            "request": attempt.request,
            "stage": attempt.stage,
            "coder": names.described(attempt).get("coder"),
            **{name: getattr(attempt, name) for name in _TOLD},
            "arm": names.of(attempt),
        }
        for attempt in journal.attempts()
    ]
    return pd.DataFrame(rows, columns=list(dict.fromkeys(("request", "stage", "coder", *_TOLD))))


class _Names:
    """What a reader calls an attempt's arm."""

    def __init__(self, journal: Journal) -> None:
        self._arms = {digest[:24]: description for digest, description in journal.arms().items()}

    def described(self, attempt: StoredAttempt) -> Mapping[str, Any]:
        return self._arms.get(attempt.arm, {})

    def of(self, attempt: StoredAttempt) -> str:
        found = self.described(attempt)
        if scorer := found.get("scorer"):
            return scorer if found["rung"] == "random" else f"{scorer} ({found['rung']})"
        return arm_label(found["explainer"], found["control"]) if found else ""


def _rank(stage: str) -> int:
    return _STAGES.index(stage) if stage in _STAGES else len(_STAGES)


def _line(stage: str, arm: str, model: str, attempts: Iterable[StoredAttempt]) -> SpendingLine:
    found = list(attempts)
    told = [attempt for attempt in found if attempt.input is not None]
    seconds = [attempt.seconds for attempt in found if attempt.outcome == "ok" and attempt.seconds is not None]
    dollars = [attempt.dollars for attempt in found]
    cached = sum(attempt.cache_read or 0 for attempt in told)
    return SpendingLine(
        stage=stage,
        arm=arm,
        model=model,
        requests=len({attempt.request for attempt in found}),
        attempts=len(found),
        failed=dict(Counter(a.outcome for a in found if a.outcome not in (None, "ok"))),
        unknown=sum(attempt.outcome is None for attempt in found),
        charged=sum(attempt.tokens for attempt in found),
        prompt=sum((attempt.input or 0) + (attempt.cache_write or 0) for attempt in told) + cached,
        cached=cached,
        reply=sum(attempt.output or 0 for attempt in told),
        reasoning=sum(attempt.reasoning or 0 for attempt in told),
        dollars=None if None in dollars else sum(value for value in dollars if value is not None),
        median=float(np.median(seconds)) if seconds else None,
        slowest=float(np.quantile(seconds, 0.95)) if seconds else None,
    )
