"""What a run's means are beside: the exact null of permuted truth, and how often the latents behind them fire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.metrics import METRICS, permuted_figures
from harness.task import POPULATIONS
from harness.values import seed_of

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.load import Run, ScoreRow

__all__ = ["permuted_mean", "quartiles", "with_nulls"]

# permutations of a latent's truth; the ends of the middle 95 % rest on 12 of them each
PERMUTATIONS = 500

Range = tuple[float, float, float]


def permuted_mean(rows: Iterable[ScoreRow], metric: str, seed: int = 0) -> Range | None:
    """An arm's mean figure over latents with the truth permuted within each: mean, and the middle 95 %.

    This is what the same verdicts give if they have nothing to do with the truth: 0.5 for balanced accuracy and AUROC,
    0 for MCC. None where no latent has a figure, or the metric is none of labels or probabilities. `rows` are one
    arm's scores by one scorer on one rung.
    """
    if metric not in METRICS:
        return None
    figures = []
    for row in rows:
        verdicts = row.verdicts
        if verdicts is None or row.status != "ok" or row.scoring.blind:
            continue
        own = seed_of(seed, row.arm.coder, row.latent, row.scoring.scorer, "permuted")
        made = permuted_figures(verdicts.truth, *verdicts.answers(), metric=metric, permutations=PERMUTATIONS, seed=own)
        if np.isfinite(made).all():
            figures.append(made)
    if not figures:
        return None
    means = np.mean(figures, axis=0)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(means.mean()), float(low), float(high)


def quartiles(values: Sequence[float]) -> Range | None:
    """Median, lower and upper quartile; None where there is no value."""
    if not values:
        return None
    median, low, high = np.quantile(np.asarray(values, dtype=np.float64), [0.5, 0.25, 0.75])
    return float(median), float(low), float(high)


def with_nulls(run: Run, table: pd.DataFrame, metric: str, scores: Sequence[ScoreRow] | None = None) -> pd.DataFrame:
    """A run's summary on the headline's rung with more columns; `scores` are the run's, read here if not given.

    - `permuted`, with `permuted_low` and `permuted_high`: the exact null of a real arm or a population by the primary
      scorer, see `permuted_mean`;
    - where the task has populations, `window_rate`, with `window_rate_q25` and `window_rate_q75`: the share of windows
      that the arm's latents fire in.
    """
    null = dict.fromkeys(("permuted", "permuted_low", "permuted_high"), np.nan)
    rows: list[dict[str, Any]] = []
    scores = list(run.sample.score_rows()) if scores is None else scores
    for row in table.to_dict("records"):
        explainer, control = (row[key] if isinstance(row[key], str) else None for key in ("explainer", "control"))
        population = control if control in POPULATIONS else None
        found = None
        if explainer is not None and control == population and row["scorer"] == run.ranking["scorer"]:
            own = [one for one in scores if (one.arm.explainer, one.arm.control) == (explainer, control)]
            own = [one for one in own if (one.scoring.scorer, one.scoring.rung) == (row["scorer"], run.rung)]
            found = permuted_mean(own, metric, run.seed)
        rows.append(dict(zip(null, found or null.values(), strict=True)))
        if run.populations:
            middle = quartiles(run.window_rates(population)) or (np.nan,) * 3
            rows[-1] |= dict(zip(("window_rate", "window_rate_q25", "window_rate_q75"), middle, strict=True))
    import pandas as pd

    return pd.concat([table, pd.DataFrame(rows, index=table.index)], axis=1)
