"""What a large run came to, counted out of its columns: units, verdicts and failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.analysis.columns import Columns
from harness.analysis.load import Run
from harness.report.data import FailureCount
from harness.report.reading import arm_of
from harness.runs.arms import written
from harness.runs.skimming import STATUSES
from harness.scorers.verdicts import FAILURES
from harness.values import FailureStatus

__all__ = ["large_counts", "large_failures"]

_FEW = STATUSES.index("too_few_examples")


def large_counts(run: Run) -> dict[str, int]:
    """Latents, explanations that were written, scores and verdicts; arms with equal explanations share their scores."""
    columns = run.columns
    random = sum(len(found) for name, found in run.latents.items() if name in run.populations)
    own = [_done(columns, at) for at, arm in enumerate(run.arms) if written(arm)]
    scores = np.concatenate([*_scores(run).values(), np.empty(0, np.int64)]).astype(np.int64)
    verdicts = columns["score/n_pos"].astype(np.int64) + columns["score/n_neg"] - columns.failed()
    return {
        "latents": sum(map(len, run.latents.values())) - random,
        **({"random latents": random} if random else {}),
        "explanations": sum(int((columns["explanation/status"][numbers] == 0).sum()) for numbers in own),
        "scores": int((columns["score/status"][scores] == 0).sum()),
        "verdicts": int(verdicts[scores].sum()),
    }


def large_failures(run: Run) -> Iterator[FailureCount]:
    """Explanations, scores and verdicts that failed; a latent with too few examples counts once."""
    columns = run.columns
    found: Counter[tuple[str, FailureStatus]] = Counter()
    few: set[tuple[str, int]] = set()
    for at, arm in enumerate(run.arms):
        numbers = columns.explanations(at)
        has = numbers >= 0
        codes = columns["explanation/status"][numbers[has]]
        _count(found, f"explanations of {arm_of(arm).label}", codes)
        if written(arm):
            few |= {(arm.coder, place) for place in np.flatnonzero(has)[codes == _FEW].tolist()}
        for other in range(len(run.scoring)):
            scores = columns.scores(at, other)
            if scores is not None and len(columns["score/status"]):
                short = (scores >= 0) & (columns["score/status"][scores] == _FEW)
                few |= {(arm.coder, place) for place in np.flatnonzero(short).tolist()}
    for scorer, scores in _scores(run).items():
        _count(found, f"scores of {scorer}", columns["score/status"][scores])
        for status, times in zip(FAILURES, columns["score/failures"][scores].sum(axis=0).tolist(), strict=True):
            if times:
                found[f"verdicts of {scorer}", status] += times
    if few:
        found["latents", "too_few_examples"] = len(few)
    yield from (FailureCount(stage, status, times) for (stage, status), times in found.items())


def _done(columns: Columns, arm: int) -> NDArray[np.int64]:
    numbers = columns.explanations(arm).astype(np.int64)
    return numbers[numbers >= 0]


def _scores(run: Run) -> dict[str, NDArray[np.int64]]:
    """The numbers of each scorer's scores, each once."""
    found: dict[str, list[NDArray[np.int64]]] = {}
    for at in range(len(run.arms)):
        for other, scoring in enumerate(run.scoring):
            numbers = run.columns.scores(at, other)
            if numbers is not None:
                found.setdefault(scoring.scorer, []).append(numbers[numbers >= 0].astype(np.int64))
    return {scorer: np.unique(np.concatenate(parts)) for scorer, parts in found.items()}


def _count(found: Counter[tuple[str, FailureStatus]], stage: str, codes: NDArray[np.uint8]) -> None:
    times = np.bincount(codes, minlength=len(STATUSES)).tolist()
    for status, count in zip(FAILURES, times[1:], strict=True):
        if count and status != "too_few_examples":
            found[stage, status] += count
