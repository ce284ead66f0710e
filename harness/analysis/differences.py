"""Arms compared with one another: every pair on the same latents, by one scorer and metric, with Holm."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd

from harness.analysis.score_table import Arm, control_of, score_table, scorers_with
from harness.errors import UserError
from harness.metrics import Comparison, Interval, compare_paired
from harness.task import POPULATIONS

__all__ = ["differences"]

COLUMNS = (
    *("a", "b", "run_a", "explainer_a", "control_a", "run_b", "explainer_b", "control_b", "n", "mean_a", "mean_b"),
    *("difference", "low", "high", "equivalence_low", "equivalence_high", "p", "p_adjusted", "outcome", "sentence"),
    *("detectable", "needed"),
)


def differences(
    scores: pd.DataFrame,
    metric: str,
    scorer: str | None = None,
    *,
    margin: float = 0.02,
    rung: str = "random",
    controls: bool = True,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """All pairs of arms, each on the latents that both have, failures at chance: one row a pair.

    A frame of scores is described in `harness.analysis.score_table`. Pairs are of two real arms, and, unless
    `controls` is false, of a real arm and a control made for it on the same latents; Holm is over the pairs in the
    table. In a pair `a` stands higher in the ranking, real arms before controls.

    Columns `a, b` (the arms' names), `run_a, explainer_a, control_a, run_b, explainer_b, control_b`, `n`,
    `mean_a, mean_b`, `difference` (a - b) with `low, high` (95 % BCa) and `equivalence_low, equivalence_high`
    (90 %, what the margin is held against), `p`, `p_adjusted`, `outcome` (differ, equivalent, inconclusive),
    `sentence`, `detectable` (at 80 % power) and `needed` (latents that the margin needs).

    Raises:
        UserError: the metric is unknown, the scorer lacks it, several scorers have it and none is named, or
            the margin is not above 0.
        ValueError: an arm has two scores for one latent.
    """
    if margin <= 0:
        raise UserError(f"the margin must be above 0, not {margin:g}")
    table = score_table(scores, metric, _scorer(scores, metric, scorer, rung), rung)
    arms = table.ranked()
    pairs = [(a, b) for a, b in combinations(arms, 2) if _wanted(arms, a, b, controls=controls)]
    compared = compare_paired([table.pair(a, b) for a, b in pairs], margin, alpha=alpha, seed=seed)
    many = len({arm.run for arm in table.arms}) > 1
    rows = [_row(a, b, comparison, many_runs=many) for (a, b), comparison in zip(pairs, compared, strict=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"needed": "Int64"})


def _scorer(scores: pd.DataFrame, metric: str, scorer: str | None, rung: str) -> str:
    if scorer is not None:
        return scorer
    names = scorers_with(scores, metric, rung)
    if len(names) > 1:
        raise UserError(f'several scorers have the metric "{metric}": name one of {", ".join(names)}')
    return names[0]


def _wanted(arms: tuple[Arm, ...], a: Arm, b: Arm, *, controls: bool) -> bool:
    # ranked: a control is never before a real arm
    if b.control is None:
        return True
    # a population has no latent in common with anything
    paired = b.control not in POPULATIONS
    return controls and paired and a.control is None and control_of(arms, a, b.control) == b


def _row(a: Arm, b: Arm, comparison: Comparison, *, many_runs: bool) -> dict[str, Any]:
    first, second = (f"{arm.run}: {arm.label}" if many_runs else arm.label for arm in (a, b))
    low, high = _ends(comparison.interval)
    equivalence_low, equivalence_high = _ends(comparison.equivalence_interval)
    return {
        "a": first,
        "b": second,
        **{f"{key}_a": value for key, value in a._asdict().items()},
        **{f"{key}_b": value for key, value in b._asdict().items()},
        "n": comparison.n,
        "mean_a": comparison.mean_a,
        "mean_b": comparison.mean_b,
        "difference": comparison.difference,
        "low": low,
        "high": high,
        "equivalence_low": equivalence_low,
        "equivalence_high": equivalence_high,
        "p": comparison.p,
        "p_adjusted": comparison.p_adjusted,
        "outcome": comparison.outcome,
        "sentence": comparison.sentence(first, second),
        "detectable": comparison.detectable,
        "needed": comparison.needed,
    }


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)
