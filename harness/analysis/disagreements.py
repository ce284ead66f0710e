"""Where scorers disagree: latents that two rank most differently, with the windows that they judge apart (A.4.7)."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.load import ScoreRow
from harness.errors import StoreError
from harness.scorers.verdicts import NOWHERE, Verdicts

if TYPE_CHECKING:
    from harness.analysis.load import Run
    from harness.store import Store

__all__ = ["disagreements"]

MOST = 10
WINDOWS = 3
COLUMNS = (
    *("coder", "latent", "explainer", "explanation", "a", "b", "metric_a", "metric_b", "value_a", "value_b"),
    *("rank_a", "rank_b", "difference", "evidence"),
)
_STRONGEST = 10.0


class _Said(NamedTuple):
    """What a scorer says of one window, from 0 (silent) to 1 (activating), and the truth."""

    activating: bool
    quantile: int
    said: float


_Where = tuple[int, int]


def disagreements(run: Run, *, most: int = MOST, windows: int = WINDOWS) -> pd.DataFrame:
    """The latents and explainers that two scorers rank most differently, of every pair of scorers.

    Scores of two scorers are on unlike scales, so an explainer's latents are ranked by each: `rank_a` and `rank_b` are
    the shares of latents with a lower score, ties counted one half. `difference` is a - b; rows descend by its size, at
    most `most` for a pair and explainer. Scores are of real arms on the headline's rung; failed ones are in none.

    `evidence` has up to `windows` windows of those that both judged and say most different things of: dictionaries with
    the window's `text` (None where the store is gone), whether it is `activating`, its `quantile` (0 where it is not),
    and `a` and `b`, what each says of it from 0 to 1: a probability or label, the window's rank where a scorer orders
    them, or the largest simulated strength over ten.
    """
    figures = {name: run.metric_of(name) for name in run.scorers}
    found: defaultdict[str, dict[str, dict[tuple[str, int], tuple[float, ScoreRow]]]] = defaultdict(dict)
    for row in run.score_rows():
        if row.arm.control is None and row.scoring.rung == run.rung and row.status == "ok" and row.unit is not None:
            value = row.unit.result["metrics"].get(figures[row.scoring.scorer])
            if value is not None:
                latent = row.arm.coder, row.latent
                found[str(row.arm.explainer)].setdefault(row.scoring.scorer, {})[latent] = float(value), row
    texts = {
        (r["coder"], r["latent"], r["explainer"]): r["text"] for r in run.explanation_records() if r["control"] is None
    }
    store = _store(run)
    window = int(run.record["task"]["examples"]["window"])
    table: list[dict[str, Any]] = []
    for one, other in combinations(run.scorers, 2):
        for explainer, scores in found.items():
            first, second = scores.get(one, {}), scores.get(other, {})
            latents = [latent for latent in first if latent in second]
            ranks = [_ranks([side[latent][0] for latent in latents]) for side in (first, second)]
            order = np.argsort(-np.abs(ranks[0] - ranks[1]), kind="stable") if latents else []
            for at in list(order)[:most]:
                latent = latents[at]
                (value_a, row_a), (value_b, row_b) = first[latent], second[latent]
                table.append(
                    {
                        "coder": latent[0],
                        "latent": latent[1],
                        "explainer": explainer,
                        "explanation": texts.get((*latent, explainer)),
                        "a": one,
                        "b": other,
                        "metric_a": figures[one],
                        "metric_b": figures[other],
                        "value_a": value_a,
                        "value_b": value_b,
                        "rank_a": float(ranks[0][at]),
                        "rank_b": float(ranks[1][at]),
                        "difference": float(ranks[0][at] - ranks[1][at]),
                        "evidence": _evidence(row_a.verdicts, row_b.verdicts, store, window, windows),
                    }
                )
    return pd.DataFrame(table, columns=list(COLUMNS))


def _store(run: Run) -> Store | None:
    try:
        return run.store()
    except StoreError:
        return None


def _ranks(values: list[float]) -> NDArray[np.float64]:
    """The share of values below each, ties counted one half, `[values]`."""
    sample = np.sort(np.array(values))
    below, level = (np.searchsorted(sample, values, side=side) for side in ("left", "right"))
    return (below + level) / (2 * max(1, len(sample)))


def _said(verdicts: Verdicts | None) -> dict[_Where, _Said]:
    if verdicts is None:
        return {}
    if verdicts.predicted.shape[1]:
        filled = np.nan_to_num(verdicts.predicted.astype(np.float64), nan=0.0)
        level = filled.max(axis=1, initial=0.0) / _STRONGEST
    elif np.isfinite(verdicts.value).any():
        level = np.full(len(verdicts), np.nan)
        has = np.isfinite(verdicts.value)
        level[has] = _ranks(verdicts.value[has].tolist())
    else:
        given = np.isfinite(verdicts.probability)
        level = np.where(given, verdicts.probability, verdicts.labels)
    kept = verdicts.answered & np.isfinite(level) & (verdicts.context != NOWHERE)
    return {
        (int(verdicts.context[at]), int(verdicts.start[at])): _Said(
            bool(verdicts.truth[at]), int(verdicts.quantile[at]), float(level[at])
        )
        for at in np.flatnonzero(kept)
    }


def _evidence(
    one: Verdicts | None, other: Verdicts | None, store: Store | None, window: int, most: int
) -> list[dict[str, Any]]:
    first, second = _said(one), _said(other)
    shared = [where for where in first if where in second]
    shared.sort(key=lambda where: -abs(first[where].said - second[where].said))
    return [
        {
            "text": None if store is None else "".join(store.pieces(where[0], where[1], where[1] + window)),
            "activating": first[where].activating,
            "quantile": first[where].quantile,
            "a": first[where].said,
            "b": second[where].said,
        }
        for where in shared[:most]
        if first[where].said != second[where].said
    ]
