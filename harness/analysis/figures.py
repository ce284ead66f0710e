"""Every figure of every score, a row a latent, arm, scorer and rung, and what it is worth at the base rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.analysis.rates import base_rates
from harness.metrics import Estimate, at_base_rate, trivial
from harness.scorers.verdicts import Verdicts
from harness.values import seed_of

if TYPE_CHECKING:
    from harness.analysis.load import Run

__all__ = ["figures"]

# with so many draws the ends of an interval at a base rate are known to about a twentieth of its width
DRAWS = 1000
AT_BASE_RATE = ("precision_at_base_rate", "f1_at_base_rate", "average_precision_at_base_rate")


def figures(run: Run, rung: str | None = None) -> pd.DataFrame:
    """One row a score of a run, on one rung or on all.

    Columns `coder, latent, explainer, control, scorer, rung, status`, `n_pos` and `n_neg` (examples of each class),
    `failed` (of them without a verdict) and one for each figure that a scorer has, missing where it is not defined;
    `by_quantile` and `calibration` are as they were recorded. Beside the figures of labels stand

    - `trivial`: the same figures of answers that know nothing (`harness.metrics.trivial`), a mapping by answer;
    - `base_rate`, the share of windows in which the latent fires, missing where no explanation was drawn for;
    - on the rung `random`, `precision_at_base_rate`, `f1_at_base_rate` and `average_precision_at_base_rate`, with
      `_low` and `_high` (`harness.metrics.at_base_rate`). A figure that is missing where its interval is there is not
      resolved: too few silent windows were asked about for a latent so rare.
    """
    rates = base_rates(run)
    rows = []
    for score in run.score_rows():
        if rung is not None and score.scoring.rung != rung:
            continue
        verdicts = score.verdicts
        told = {} if score.unit is None or score.status != "ok" else score.unit.result.get("metrics", {})
        row: dict[str, Any] = {
            "coder": score.arm.coder,
            "latent": score.latent,
            "explainer": score.arm.explainer,
            "control": score.arm.control,
            "scorer": score.scoring.scorer,
            "rung": score.scoring.rung,
            "status": score.status,
            **_counted(verdicts),
            "base_rate": rates.get((score.arm.coder, score.latent)),
            **told,
        }
        if verdicts is not None and score.status == "ok" and (verdicts.label >= 0).any() and "chance" not in told:
            seed = seed_of(run.seed, score.arm.coder, score.latent, "base rate")
            row |= _labelled(verdicts, row["base_rate"] if score.scoring.rung == "random" else None, seed)
        rows.append(row)
    return pd.DataFrame(rows)


def _counted(verdicts: Verdicts | None) -> dict[str, int]:
    if verdicts is None:
        return {"n_pos": 0, "n_neg": 0, "failed": 0}
    positive = int(verdicts.truth.sum())
    return {"n_pos": positive, "n_neg": len(verdicts) - positive, "failed": int((~verdicts.answered).sum())}


def _labelled(verdicts: Verdicts, base_rate: float | None, seed: int) -> dict[str, Any]:
    """What stands beside figures of labels."""
    answered = verdicts.truth[verdicts.answered]
    beside: dict[str, Any] = {"trivial": trivial(int(answered.sum()), len(answered) - int(answered.sum()))}
    if base_rate is None or not 0 < base_rate < 1:
        return beside
    found = at_base_rate(verdicts.truth, verdicts.labels, verdicts.scores, base_rate=base_rate, draws=DRAWS, seed=seed)
    for name, estimate in zip(AT_BASE_RATE, (found.precision, found.f1, found.average_precision), strict=True):
        beside |= _estimated(name, estimate)
    return beside


def _estimated(name: str, estimate: Estimate | None) -> Mapping[str, float]:
    if estimate is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), math.nan)
    value = math.nan if estimate.value is None else estimate.value
    return {name: value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
