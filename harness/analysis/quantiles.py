"""How scores depend on how strongly a latent fires, quantile by quantile, and on where silent examples come from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.load import ScoreRow
from harness.metrics import mean_interval
from harness.runs.arms import arm_label

if TYPE_CHECKING:
    from harness.analysis.columns import Columns
    from harness.analysis.load import Run

__all__ = ["quantiles", "quantiles_of"]

COLUMNS = (
    *("explainer", "control", "arm", "scorer", "rung", "figure", "quantile", "latents", "verdicts"),
    *("value", "low", "high"),
)
# what stands in the place of a quantile
SILENT, ALL = "silent", "all"

_Key = tuple[str | None, str | None, str, str]
# of one latent: quantile -> (value, verdicts that it rests on)
_Found = dict[str, tuple[float, int]]
# quantile -> (each latent's value, verdicts that they rest on in all)
_Column = tuple[NDArray[np.float64], int]
_Columns = dict[str, _Column]


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
    return _written(_by_row(rows), seed)


def quantiles_of(run: Run) -> pd.DataFrame:
    """`quantiles` of a run; of a large one out of its columns."""
    if not run.large:
        return quantiles(run.score_rows(), run.seed)
    from harness.analysis.frames import blocks

    told: defaultdict[tuple[_Key, str], list[dict[str, _Column]]] = defaultdict(list)
    for block in blocks(run, run.columns):
        arm = run.arms[block.arm]
        for at in np.unique(block.scoring).tolist():
            scoring = run.scoring[at]
            own = block.number[(block.scoring == at) & (block.status == 0)]
            if scoring.chance is None and len(own):
                key = arm.explainer, arm.control, scoring.scorer, scoring.rung
                for figure, found in _of_columns(run.columns, own, scoring.metric):
                    told[key, figure].append(found)
    table: dict[tuple[_Key, str], _Columns] = {}
    for whose, parts in told.items():
        names = dict.fromkeys(name for part in parts for name in part)
        table[whose] = {
            name: (
                np.concatenate([part[name][0] for part in parts if name in part]),
                sum(part[name][1] for part in parts if name in part),
            )
            for name in names
        }
    return _written(table, run.seed)


def _of_columns(columns: Columns, own: NDArray[np.int64], figure: str) -> Iterator[tuple[str, dict[str, _Column]]]:
    """What `_of` tells of one score, of these scores by number: those with labels, and those without."""
    given, right = (columns[f"score/{name}"][own].astype(np.int64) for name in ("given", "right"))
    labelled = given.any(axis=1)
    if labelled.any():
        given, right = given[labelled], right[labelled]
        shares = np.divide(right, given, out=np.full(given.shape, math.nan), where=given > 0)
        silent, fires = shares[:, 0], shares[:, -1]
        found = {str(q): (shares[:, q], given[:, q]) for q in range(1, shares.shape[1] - 1)}
        found |= {SILENT: (silent, given[:, 0]), ALL: ((fires + silent) / 2, given[:, 0] + given[:, -1])}
        yield "share right", _there(found)
    if not labelled.all():
        rest = own[~labelled]
        answered = columns["score/answered"][rest].astype(np.int64)
        counts = {str(q): answered[:, q] for q in range(1, answered.shape[1] - 1)}
        nothing = np.zeros(len(rest), np.int64)
        found = {name: (columns[f"quantile/{name}"][rest], counts.get(name, nothing)) for name in columns.quantiles}
        if f"metric/{figure}" in columns:
            found[ALL] = columns[f"metric/{figure}"][rest], answered[:, 0] + answered[:, -1]
        yield figure, _there(found)


def _there(found: Mapping[str, tuple[NDArray[np.float64], NDArray[np.int64]]]) -> dict[str, _Column]:
    """The values that are defined, with how many verdicts they rest on."""
    return {
        name: (values[has], int(counts[has].sum()))
        for name, (values, counts) in found.items()
        if (has := ~np.isnan(values)).any()
    }


def _by_row(rows: Iterable[ScoreRow]) -> dict[tuple[_Key, str], _Columns]:
    found: defaultdict[tuple[_Key, str], list[_Found]] = defaultdict(list)
    for row in rows:
        key = row.arm.explainer, row.arm.control, row.scoring.scorer, row.scoring.rung
        if row.status == "ok" and (told := _of(row)) is not None:
            found[key, told[0]].append(told[1])
    return {
        whose: {
            name: (
                np.array([one[name][0] for one in latents if name in one]),
                sum(one[name][1] for one in latents if name in one),
            )
            for name in dict.fromkeys(name for one in latents for name in one)
        }
        for whose, latents in found.items()
    }


def _written(found: Mapping[tuple[_Key, str], _Columns], seed: int) -> pd.DataFrame:
    table = [line for (key, figure), told in found.items() for line in _lines(key, figure, told, seed)]
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


def _lines(key: _Key, figure: str, told: _Columns, seed: int) -> Iterator[dict[str, Any]]:
    explainer, control, scorer, rung = key
    for name in sorted(told, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else name == ALL)):
        values, verdicts = told[name]
        interval = mean_interval(values, seed=seed)
        yield {
            "explainer": explainer,
            "control": control,
            "arm": arm_label(explainer, control),
            "scorer": scorer,
            "rung": rung,
            "figure": figure,
            "quantile": name,
            "latents": len(values),
            "verdicts": verdicts,
            "value": float(values.mean()),
            "low": math.nan if interval is None else interval.low,
            "high": math.nan if interval is None else interval.high,
        }
