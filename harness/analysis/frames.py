"""Frames of a large run's scores out of its columns: the rows of `Run.scores` and in their order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.columns import Columns
from harness.analysis.rows import FIGURE
from harness.runs.arms import judges
from harness.runs.skimming import FIXED, MISSING, STATUSES

if TYPE_CHECKING:
    from harness.analysis.load import Run

__all__ = ["Block", "blocks", "score_frame"]

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The rows of one arm, a latent's scores after one another.

    `arm` and, of each row, `scoring` are places in the task; `place` is the latent's in its coder's order, `number` the
    score's in the columns, `MISSING` where there was no explanation to score, and `status` a place in `STATUSES`.
    """

    arm: int
    scoring: Numbers
    place: Numbers
    number: Numbers
    status: Numbers

    def of(self, column: NDArray[Any], missing: Any) -> NDArray[Any]:
        """A column of scores by row, with what stands where there is none."""
        if not len(column):
            return np.full(len(self.number), missing)
        return np.where(self.number == MISSING, missing, column[self.number])


def blocks(run: Run, columns: Columns) -> Iterator[Block]:
    """A run's scores arm by arm; those that are not reached are left out."""
    own, statuses = columns["explanation/status"], columns["score/status"]
    for at, arm in enumerate(run.arms):
        judging = [other for other, scoring in enumerate(run.scoring) if judges(scoring, arm)]
        explained = columns.explanations(at).astype(np.int64)
        found = [columns.scores(at, other) for other in judging]
        numbers = [scores for scores in found if scores is not None]
        if not numbers:
            continue
        number = np.stack(numbers, axis=1).astype(np.int64)
        status = own[np.maximum(explained, 0)] if len(own) else np.zeros(len(explained), np.uint8)
        failed = (explained >= 0) & (status > 0)
        asked = (explained == FIXED) | ((explained >= 0) & (status == 0))
        reached = failed[:, None] | (asked[:, None] & (number != MISSING))
        place, column = np.nonzero(reached)
        kept = np.where(failed[place], MISSING, number[place, column])
        told = np.where(failed[place], status[place], statuses[kept] if len(statuses) else 0)
        yield Block(at, np.array(judging, np.int64)[column], place, kept, told.astype(np.int64))


def score_frame(run: Run, columns: Columns, metrics: Collection[str]) -> pd.DataFrame:
    """The rows of `Run.scores` with these figures as columns `metric_<name>`, and without `metrics` and `usage`."""
    parts = list(blocks(run, columns))
    arms = np.concatenate([np.full(len(part.place), part.arm) for part in parts] or [np.empty(0, np.int64)])
    scoring = _joined([part.scoring for part in parts])
    order = {coder: np.asarray(indices, np.int64) for coder, indices in run.record["latents"].items()}
    frame: dict[str, Any] = {
        "run": _words([run.name], np.zeros(len(arms), np.int64)),
        "coder": _words([arm.coder for arm in run.arms], arms),
        "hookpoint": _words([run.hookpoints[arm.coder] for arm in run.arms], arms),
        "latent": _joined([order[run.arms[part.arm].coder][part.place] for part in parts]),
        "explainer": _words([arm.explainer for arm in run.arms], arms),
        "control": _words([arm.control for arm in run.arms], arms),
        "scorer": _words([one.scorer for one in run.scoring], scoring),
        "scorer_model": _words([one.model for one in run.scoring], scoring),
        "prompt": _words([one.prompt for one in run.scoring], scoring),
        "rung": _words([one.rung for one in run.scoring], scoring),
        "status": _words(STATUSES, _joined([part.status for part in parts])),
    }
    for metric in metrics:
        name = f"metric/{metric}"
        if name in columns:
            values = [np.where(part.status == 0, part.of(columns[name], np.nan), np.nan) for part in parts]
            frame[FIGURE + metric] = np.concatenate(values or [np.empty(0)])
    for name, column in (
        ("n_pos", columns["score/n_pos"]),
        ("n_neg", columns["score/n_neg"]),
        ("failed", columns.failed()),
    ):
        frame[name] = _joined([part.of(column, 0) for part in parts])
    return pd.DataFrame(frame)


def _joined(parts: Sequence[NDArray[Any]]) -> Numbers:
    return np.concatenate([*parts, np.empty(0, np.int64)]).astype(np.int64)


def _words(words: Sequence[str | None], numbers: Numbers) -> pd.Categorical:
    """Words by their places, each word once; None is missing."""
    distinct = list(dict.fromkeys(word for word in words if word is not None))
    codes = np.array([-1 if word is None else distinct.index(word) for word in words] or [-1])
    return pd.Categorical.from_codes(codes[numbers], distinct)
