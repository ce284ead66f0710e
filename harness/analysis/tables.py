"""Tables of a run's scores: one row an arm and scorer with intervals and lifts, and one row a latent.

What a frame of scores is, and how failures count, is told in `harness.analysis.score_table`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.rows import kept, mean_of
from harness.analysis.score_table import Arm, ScoreTable, control_of, score_tables
from harness.metrics import Interval, mean_interval, median_interval, unpaired_interval
from harness.runs.arms import NO_EXPLANATION
from harness.task import POPULATIONS
from harness.values import FailureStatus

__all__ = ["latent_table", "summary"]

Floats = NDArray[np.float64]


def summary(
    scores: pd.DataFrame, metric: str, scorer: str | None = None, rung: str = "random", seed: int = 0
) -> pd.DataFrame:
    """Arms beside one another: one row an arm and scorer, real arms first, highest mean first.

    Columns:

    - `run, explainer, control, arm, scorer, scorer_model, prompt`;
    - `latents` reached, `ok` with a score, `undefined` of these without this figure, one count for each failure
      status, `failed_verdicts` within scores;
    - `mean` over the `common` latents where all compared arms have the figure;
    - `mean_at_chance`, what arms are ranked by, and `worst`, the mean with failures at 0 (not for correlations);
    - `median, q25, q75` of the arm's own figures, the median with `median_low, median_high` (`median_interval`);
    - `trivial`, what the best of the trivial answers (always, never, as often as it is) gets on these examples, a mean
      over latents, missing for figures of strengths and of choices;
    - for every control, `lift_<control>`: the paired difference to it, failures at chance; over a population of
      random latents the unpaired one, as it has latents of its own.

    Means and lifts have `_low` and `_high`, a 95 % BCa interval over latents, missing below 20 latents.

    Raises:
        UserError: the metric is unknown, or the scorer or every scorer lacks it on the rung.
        ValueError: an arm has two scores for one latent.
    """
    rows: list[dict[str, Any]] = []
    for name, table in score_tables(scores, metric, rung, scorer):
        rows += [_arm_row(table, arm, name, seed) for arm in table.ranked()]
    return pd.DataFrame(rows)


def latent_table(explanations: pd.DataFrame, scores: pd.DataFrame, metric: str, rung: str = "random") -> pd.DataFrame:
    """Latents with their explanations and scores: one row a latent and real arm.

    Columns `run, coder, hookpoint, latent, explainer, explanation, status`, then for each scorer one of its name
    with the figure, and `<scorer>_<control>` for the controls on the same latents; missing where there is no figure.

    Raises:
        UserError: the metric is unknown, or no scorer has it on the rung.
        ValueError: an arm has two scores for one latent.
    """
    names = ["run", "coder", "hookpoint", "latent", "explainer", "text", "status"]
    table = explanations.loc[explanations["control"].isna(), names].reset_index(drop=True)
    table = table.set_axis([*names[:5], "explanation", "status"], axis=1)
    for scorer, figures in score_tables(scores, metric, rung):
        place = {latent: row for row, latent in enumerate(figures.latents)}
        rows = [place.get((str(c), int(i))) for c, i in zip(table["coder"], table["latent"], strict=True)]
        runs = [None if _missing(run) else str(run) for run in table["run"]]
        arms = [Arm(run, str(name), None) for run, name in zip(runs, table["explainer"], strict=True)]
        paired = [control for control in _controls(figures.arms) if control not in POPULATIONS]
        for control in (None, *paired):
            beside = [arm if control is None else control_of(figures.arms, arm, control) for arm in arms]
            column = scorer if control is None else f"{scorer}_{control}"
            table[column] = [_cell(figures, row, arm) for row, arm in zip(rows, beside, strict=True)]
    return table


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _with_interval(name: str, values: Floats, seed: int) -> dict[str, float]:
    known = kept(values)
    return {name: mean_of(known), **_ends(name, mean_interval(known, seed=seed))}


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    low, high = (math.nan, math.nan) if interval is None else (interval.low, interval.high)
    return {f"{name}_low": low, f"{name}_high": high}


def _arm_row(table: ScoreTable, arm: Arm, scorer: str, seed: int) -> dict[str, Any]:
    column = table.arms.index(arm)
    told, value = table.told[column], table.value[:, column]
    shared = table.common() & ~np.isnan(value)
    own = kept(value)
    ok = told.statuses.get("ok", 0)
    quartiles = np.quantile(own, [0.5, 0.25, 0.75]).tolist() if len(own) else [math.nan] * 3
    row: dict[str, Any] = {
        **arm._asdict(),
        "arm": arm.label,
        "scorer": scorer,
        "scorer_model": told.scorer_model,
        "prompt": told.prompt,
        "latents": told.latents,
        "ok": ok,
        "undefined": ok - len(own),
        **{status: told.statuses.get(status, 0) for status in get_args(FailureStatus)},
        "failed_verdicts": told.failed_verdicts,
        "common": int(shared.sum()),
        **_with_interval("mean", value[shared], seed),
        **_with_interval("mean_at_chance", table.at_chance[:, column], seed),
        "worst": mean_of(table.worst[:, column]),
        **dict(zip(("median", "q25", "q75"), quartiles, strict=True)),
        **_ends("median", median_interval(own)),
        "trivial": told.trivial,
    }
    for control in _controls(table.arms):
        row |= _lift(table, arm, control, seed)
    return row


def _lift(table: ScoreTable, arm: Arm, control: str, seed: int) -> dict[str, float]:
    name = f"lift_{control}"
    other = None if arm.control == control else control_of(table.arms, arm, control)
    if other is None or (control in POPULATIONS and arm.control not in (None, NO_EXPLANATION)):
        return _with_interval(name, np.empty(0), seed)
    if control in POPULATIONS:
        a, b = (kept(table.at_chance[:, table.arms.index(one)]) for one in (arm, other))
        return {name: mean_of(a) - mean_of(b), **_ends(name, unpaired_interval(a, b, seed=seed))}
    a, b = table.pair(arm, other)
    return _with_interval(name, a - b, seed)


def _controls(arms: Sequence[Arm]) -> list[str]:
    return list(dict.fromkeys(arm.control for arm in arms if arm.control is not None))


def _cell(table: ScoreTable, row: int | None, arm: Arm | None) -> float:
    if row is None or arm is None or arm not in table.arms:
        return math.nan
    return float(table.value[row, table.arms.index(arm)])
