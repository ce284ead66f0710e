"""Explainers that choose among explanations on the `select` split: how often, and how much that flatters the chosen."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.analysis.rows import where
from harness.metrics import mean_interval

if TYPE_CHECKING:
    from harness.analysis.load import Run

__all__ = ["choices"]

_COLUMNS = ("explainer", "coder", "latents", "first", "equal", "metric", "select", "scored", "optimism", "low", "high")


def choices(run: Run, scorer: str | None = None, metric: str | None = None) -> pd.DataFrame:
    """One row an explainer that notes its candidates, and coder.

    `latents` are those with a score of both kinds. `first` is the share of them for which the first candidate was
    taken, `equal` for which all candidates were the same words. `select` is the mean figure of the taken one on the
    windows that chose it, `scored` its mean figure by `scorer` (the primary one if None) on the headline rung's, both
    in `metric`, which is the one that was chosen by; explainers that chose by another than is asked for have no row.
    `optimism` is the mean of the difference, select minus scored, with its interval `low` to `high`: what choosing
    makes of chance. It compares like with like where the scorer is the one that was chosen by.
    """
    name = scorer or run.ranking["scorer"]
    figures = _figures(run, name)
    found: dict[tuple[str, str, str], list[tuple[bool, bool, float, float]]] = defaultdict(list)
    for arm, latent, unit in run.explanation_units():
        notes: dict[str, Any] = {} if unit is None else unit.result.get("notes") or {}
        if arm.explainer is None or arm.control is not None or "chosen" not in notes:
            continue
        figure = notes["metric"]
        candidates, at = notes["candidates"], notes["chosen"]
        selected = candidates[at].get("select")
        scored = figures.get((arm.explainer, arm.coder, latent), {}).get(figure)
        if selected is None or scored is None or (metric is not None and figure != metric):
            continue
        equal = len({one.get("text") for one in candidates}) == 1
        found[arm.explainer, arm.coder, figure].append((at == 0, equal, float(selected), float(scored)))
    return pd.DataFrame([_row(key, rows, run.seed) for key, rows in found.items()], columns=list(_COLUMNS))


def _figures(run: Run, scorer: str) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Each explainer's figures of each latent on the headline rung."""
    scores = where(run.scores(), scorer=scorer, rung=run.rung, status="ok")
    own = scores[scores["control"].isna()]
    keys = zip(own["explainer"], own["coder"], own["latent"].tolist(), strict=True)
    return dict(zip(keys, own["metrics"], strict=True))


def _row(key: tuple[str, str, str], rows: list[tuple[bool, bool, float, float]], seed: int) -> dict[str, Any]:
    first, equal, selected, scored = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    interval = mean_interval(selected - scored, seed=seed)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    means = [float(column.mean()) for column in (first, equal)]
    shown = [float(column.mean()) for column in (selected, scored, selected - scored)]
    explainer, coder, metric = key
    return dict(zip(_COLUMNS, (explainer, coder, len(rows), *means, metric, *shown, low, high), strict=True))
