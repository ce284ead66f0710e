"""Arms with all that is told of one: means, medians, lifts and failures, length of its explanations, what it costs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.nulls import with_nulls
from harness.analysis.rows import figure_of, kept, known, where
from harness.analysis.tables import summary
from harness.metrics import CHANCE
from harness.runs.arms import alone
from harness.runs.skimming import FIXED
from harness.values import Usage

if TYPE_CHECKING:
    from harness.analysis.load import Run

__all__ = ["arms", "layer_of", "layers"]

_LAYER = re.compile(r"\.(\d+)(?:\.|$)")


def arms(run: Run, scorer: str | None = None, metric: str | None = None) -> pd.DataFrame:
    """One row an arm, scorer and rung: the columns of `harness.analysis.tables.summary`, and what follows.

    Without `scorer` all scorers have rows, the primary one first, each by the figure that it is shown by; with `metric`
    those that have it, by that. Further columns: `metric`, `rung`, `chance`; the null of permuted truth and firing
    rates on the headline's rung (`harness.analysis.nulls.with_nulls`); the median of the explanations' `words` and
    `characters`, where there are any; and `dollars`, what the explanation of one latent cost on average, missing where
    no price is known, 0 without a language model. `gain_per_dollar` is how far the mean with failures at chance stands
    above chance, for each dollar that explaining 1,000 latents costs; missing where that costs nothing. Of a large run
    (`Run.large`) the null is of `Run.sample`, all else of all latents.

    Raises:
        UserError: the metric is unknown, or the scorer or every scorer lacks it.
    """
    wanted = run.shown_figures() | ({metric} if metric is not None else set())
    scores, rows = run.score_frame(wanted), list(run.sample.score_rows())
    written = _written_columns(run) if run.large else _written(run.explanation_records())
    tables = []
    for rung in dict.fromkeys([run.rung, *known(scores, "rung")[1]]):
        for name in _ordered(run, scorer):
            if where(scores, rung=rung, scorer=name).empty:
                continue
            figure = metric or run.metric_of(name)
            if metric is not None and scorer is None and not _has(scores, name, metric):
                continue
            table = summary(scores, figure, name, rung, seed=run.seed)
            if rung == run.rung:
                table = with_nulls(run, table, figure, rows)
            table = table.assign(metric=figure, rung=rung, chance=_chance(run, name, figure))
            tables.append(_with_costs(table, written))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def layers(run: Run, scorer: str | None = None, metric: str | None = None) -> pd.DataFrame:
    """One row a coder, arm and scorer on the headline's rung (paper, figure A5): `summary`'s columns by coder.

    Before them stand `coder`, its `hookpoint` and `layer`, the first number in that, missing where there is none, by
    which rows ascend. Means are over one coder's latents alone, so arms of several coders are not compared on common
    ones.

    Raises:
        UserError: as `arms`.
    """
    wanted = run.shown_figures() | ({metric} if metric is not None else set())
    scores = where(run.score_frame(wanted), rung=run.rung)
    tables = []
    for coder in known(scores, "coder")[1]:
        own = where(scores, coder=coder)
        hookpoint = next(iter(own["hookpoint"]))
        for name in _ordered(run, scorer):
            figure = metric or run.metric_of(name)
            if where(own, scorer=name).empty or (scorer is None and not _has(own, name, figure)):
                continue
            table = summary(own, figure, name, run.rung, seed=run.seed).assign(metric=figure)
            for at, (column, value) in enumerate(
                (("coder", coder), ("hookpoint", hookpoint), ("layer", layer_of(hookpoint)))
            ):
                table.insert(at, column, value)
            tables.append(table)
    if not tables:
        return pd.DataFrame()
    found = pd.concat(tables, ignore_index=True)
    return found.sort_values("layer", kind="stable", ignore_index=True)


def layer_of(hookpoint: Any) -> float:
    """The first number in a hookpoint's path, NaN where there is none."""
    found = _LAYER.search(hookpoint) if isinstance(hookpoint, str) else None
    return math.nan if found is None else float(found.group(1))


def _chance(run: Run, scorer: str, metric: str) -> float:
    return run.chance_of(scorer) if metric == run.metric_of(scorer) else CHANCE.get(metric, 0.0)


def _ordered(run: Run, scorer: str | None) -> list[str]:
    if scorer is not None:
        return [scorer]
    return sorted(run.scorers, key=lambda name: name != run.ranking["scorer"])


def _has(scores: pd.DataFrame, scorer: str, metric: str) -> bool:
    return bool((~np.isnan(figure_of(where(scores, scorer=scorer), metric))).any())


_Arm = tuple[str | None, str | None]


def _written(records: list[dict[str, Any]]) -> dict[_Arm, dict[str, float]]:
    """Of each arm: the lengths of its explanations, and dollars for one latent's."""
    groups: dict[_Arm, list[dict[str, Any]]] = {}
    for row in records:
        groups.setdefault((row["explainer"], row["control"]), []).append(row)
    found = {}
    for arm, rows in groups.items():
        texts = [row["text"] for row in rows if row["text"] is not None]
        words = [len(text.split()) for text in texts]
        found[arm] = {
            "words": float(np.median(words)) if texts else math.nan,
            "characters": float(np.median([len(text) for text in texts])) if texts else math.nan,
            "dollars": _dollars([row["usage"] for row in rows]),
        }
    return found


def _written_columns(run: Run) -> dict[_Arm, dict[str, float]]:
    """The same of a large run, out of its columns."""
    groups: dict[_Arm, list[NDArray[np.int64]]] = {}
    for at, arm in enumerate(run.arms):
        numbers = run.columns.explanations(at)
        if alone(arm) or (numbers == FIXED).all():
            continue
        groups.setdefault((arm.explainer, arm.control), []).append(numbers[numbers >= 0])
    found = {}
    for arm, parts in groups.items():
        own = np.concatenate(parts)
        words, characters, requests, cost = (
            run.columns[f"explanation/{name}"][own] for name in ("words", "characters", "requests", "cost")
        )
        used = ~np.isnan(requests)
        priced = used.any() and not (np.isnan(cost) & (requests > 0)).any()
        found[arm] = {
            "words": _median(words),
            "characters": _median(characters),
            "dollars": float(np.nansum(cost[used]) / used.sum()) if priced else math.nan,
        }
    return found


def _median(values: NDArray[np.float64]) -> float:
    there = kept(values)
    return float(np.median(there)) if len(there) else math.nan


def _dollars(usages: list[Mapping[str, Any] | None]) -> float:
    """Mean dollars over latents; NaN where nothing was asked, or a price is not known."""
    used = [Usage(**usage) for usage in usages if usage is not None]
    if not used or any(usage.cost is None and usage.requests for usage in used):
        return math.nan
    return sum(usage.cost or 0.0 for usage in used) / len(used)


def _with_costs(table: pd.DataFrame, written: Mapping[_Arm, Mapping[str, float]]) -> pd.DataFrame:
    rows = []
    for row in table.to_dict("records"):
        explainer, control = (row[key] if isinstance(row[key], str) else None for key in ("explainer", "control"))
        own = dict(written.get((explainer, control), dict.fromkeys(("words", "characters", "dollars"), math.nan)))
        thousand = 1000 * own["dollars"]
        gain = (row["mean_at_chance"] - row["chance"]) / thousand if thousand > 0 else math.nan
        rows.append({**own, "gain_per_dollar": gain})
    return pd.concat([table, pd.DataFrame(rows, index=table.index)], axis=1)
