"""How far each scorer agrees with itself: split-half reliability of its figure over latents and arms."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.load import ScoreRow
from harness.metrics import METRICS, SPLITS, Votes, ends, figure, halves, split_half
from harness.runs.arms import NO_EXPLANATION
from harness.scorers.verdicts import Verdicts
from harness.values import seed_of

__all__ = ["half_figures", "reliabilities"]

Floats = NDArray[np.float64]
COLUMNS = ("scorer", "metric", "n", "latents", "reliability", "low", "high")


def reliabilities(
    rows: Iterable[ScoreRow],
    figures: Mapping[str, str],
    *,
    rung: str = "random",
    seed: int = 0,
) -> pd.DataFrame:
    """One row a scorer: `scorer, metric, n, latents, reliability, low, high`; missing where there is none.

    `figures` names each scorer's figure. Rows are of real arms, and of latents alone for scorers that judge no
    explanation. The verdicts of a score are split at random into halves balanced by truth and quantile, the same for
    every arm and scorer with these examples; see `harness.metrics.split_half`.
    """
    found: defaultdict[str, list[tuple[Floats, Floats]]] = defaultdict(list)
    latents: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        real = row.arm.control in (None, NO_EXPLANATION)
        scorer = row.scoring.scorer
        if not real or row.scoring.rung != rung or row.status != "ok" or scorer not in figures:
            continue
        if (verdicts := row.verdicts) is not None:
            own = seed_of(seed, row.arm.coder, row.latent, "halves")
            found[scorer].append(half_figures(verdicts, figures[scorer], seed=own))
            latents[scorer].append(f"{row.arm.coder}:{row.latent}")
    table = [_row(scorer, figures[scorer], found[scorer], latents[scorer]) for scorer in figures]
    return pd.DataFrame(table, columns=list(COLUMNS))


def half_figures(verdicts: Verdicts, metric: str, *, splits: int = SPLITS, seed: int = 0) -> tuple[Floats, Floats]:
    """A figure from either half of the answered examples in each split, two arrays `[splits]`.

    NaN where it is not defined, and throughout for a metric that is not made of single examples.
    """
    answered = verdicts.answered
    first = halves(verdicts.truth[answered], verdicts.quantile[answered], splits=splits, seed=seed)
    if metric == "pearson":
        return _simulated(verdicts, answered, first), _simulated(verdicts, answered, ~first)
    if metric not in METRICS or not answered.any():
        nothing = np.full(splits, np.nan)
        return nothing, nothing
    scores = verdicts.scores
    truth = verdicts.truth[answered].astype(np.float64)
    ordering = np.full(len(truth), np.nan) if scores is None else scores[answered]
    votes = Votes(truth, verdicts.labels[answered], ordering, 0, answered)
    used = votes.used_by(metric)
    if len(used.truth) != len(truth):
        nothing = np.full(splits, np.nan)
        return nothing, nothing
    return _judged(metric, votes, first), _judged(metric, votes, ~first)


def _judged(metric: str, votes: Votes, chosen: NDArray[np.bool_]) -> Floats:
    return np.atleast_1d(figure(metric, votes, chosen * votes.truth, chosen * (1 - votes.truth)))


def _simulated(verdicts: Verdicts, answered: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> Floats:
    """Pearson's correlation over all tokens of the chosen windows, from each window's sums."""
    x, y = (strengths[answered].astype(np.float64) for strengths in (verdicts.predicted, verdicts.actual))
    has = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(has, x, 0.0), np.where(has, y, 0.0)
    sums = np.stack([part.sum(axis=1) for part in (has, x, y, x * x, y * y, x * y)], axis=1)
    count, sx, sy, sxx, syy, sxy = (chosen.astype(np.float64) @ sums).T
    # times the count squared, so that nothing is divided before the end
    whole = np.sqrt(np.maximum(count * sxx - sx**2, 0.0) * np.maximum(count * syy - sy**2, 0.0))
    return np.divide(count * sxy - sx * sy, whole, out=np.full(len(whole), np.nan), where=whole > 1e-9)


def _row(scorer: str, metric: str, found: list[tuple[Floats, Floats]], latents: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"scorer": scorer, "metric": metric, "n": 0, "latents": 0}
    row |= dict.fromkeys(("reliability", "low", "high"), math.nan)
    if found:
        first, second = (np.stack([pair[side] for pair in found], axis=1) for side in (0, 1))
        told = split_half(first, second, np.array(latents))
        row |= {"n": told.n, "latents": told.latents}
        if told.value is not None:
            row["reliability"] = told.value
        row["low"], row["high"] = ends(told.interval)
    return row
