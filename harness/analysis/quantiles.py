"""How scores depend on how strongly a latent fires, quantile by quantile, and on where silent examples come from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.load import ScoreRow
from harness.metrics import mean_interval
from harness.runs.arms import arm_label

__all__ = ["quantiles"]

COLUMNS = (
    *("explainer", "control", "arm", "scorer", "rung", "figure", "quantile", "latents", "verdicts"),
    *("value", "low", "high"),
)
# what stands in the place of a quantile
SILENT, ALL = "silent", "all"

_Key = tuple[str | None, str | None, str, str]
# of one latent: quantile -> (value, verdicts that it rests on)
_Found = dict[str, tuple[float, int]]


def quantiles(rows: Iterable[ScoreRow], seed: int = 0) -> pd.DataFrame:
    """One row an arm, scorer, rung and quantile of activation, weak to strong (paper, figure 3 c and d).

    Columns `explainer, control, arm, scorer, rung`, `figure`, `quantile` ("1" to "10", `silent` for examples that do
    not activate the latent, `all` for one half of each kind), `latents` and `verdicts` that it rests on, and `value`, a
    mean over latents, with `low` and `high`, its 95 % BCa interval, missing below 20 latents. Latents without such a
    verdict, and failed verdicts, are in none.

    `figure` says what the value is. Of scorers that give labels it is `share right`, the share of verdicts that are
    right. Of those that order examples it is `auroc`, of the quantile's windows against all silent ones, and of
    simulation `pearson`, over the tokens of the quantile's windows; there is no `silent` then, and `all` is the score's
    own figure.
    """
    found: defaultdict[tuple[_Key, str], list[_Found]] = defaultdict(list)
    for row in rows:
        key = row.arm.explainer, row.arm.control, row.scoring.scorer, row.scoring.rung
        if row.status == "ok" and (told := _of(row)) is not None:
            found[key, told[0]].append(told[1])
    table = [line for (key, figure), latents in found.items() for line in _lines(key, figure, latents, seed)]
    return pd.DataFrame(table, columns=list(COLUMNS))


def _of(row: ScoreRow) -> tuple[str, _Found] | None:
    verdicts, unit = row.verdicts, row.unit
    if verdicts is None or unit is None or row.scoring.chance is not None:
        return None
    if (verdicts.label >= 0).any():
        given = verdicts.label >= 0
        right = verdicts.label == verdicts.truth
        groups = {str(q): given & (verdicts.quantile == q) for q in np.unique(verdicts.quantile) if q}
        fires, silent = given & (verdicts.truth == 1), given & (verdicts.truth == 0)
        shares = {name: (float(right[which].mean()), int(which.sum())) for name, which in groups.items() if which.any()}
        if silent.any():
            shares[SILENT] = float(right[silent].mean()), int(silent.sum())
            if fires.any():
                shares[ALL] = float(right[fires].mean() + right[silent].mean()) / 2, int(given.sum())
        return "share right", shares
    metrics = unit.result.get("metrics", {})
    figure, by = row.scoring.metric, metrics.get("by_quantile") or {}
    counts = {str(q): int((verdicts.answered & (verdicts.quantile == q)).sum()) for q in np.unique(verdicts.quantile)}
    values = {name: (float(value), counts.get(name, 0)) for name, value in by.items() if value is not None}
    if metrics.get(figure) is not None:
        values[ALL] = float(metrics[figure]), int(verdicts.answered.sum())
    return figure, values


def _lines(key: _Key, figure: str, latents: list[_Found], seed: int) -> Iterator[dict[str, Any]]:
    explainer, control, scorer, rung = key
    names = {name for found in latents for name in found}
    for name in sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else name == ALL)):
        own = [found[name] for found in latents if name in found]
        values = np.array([value for value, _ in own])
        interval = mean_interval(values, seed=seed)
        yield {
            "explainer": explainer,
            "control": control,
            "arm": arm_label(explainer, control),
            "scorer": scorer,
            "rung": rung,
            "figure": figure,
            "quantile": name,
            "latents": len(own),
            "verdicts": sum(count for _, count in own),
            "value": float(values.mean()),
            "low": math.nan if interval is None else interval.low,
            "high": math.nan if interval is None else interval.high,
        }
