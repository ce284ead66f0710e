"""Scores against how often latents fire: bands of the firing rate, and the correlation over latents."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.metrics import correlation, ends, mean_interval
from harness.runs.arms import arm_label

if TYPE_CHECKING:
    from harness.analysis.load import Run

__all__ = ["base_rates", "figures_by_rate", "firing"]

BANDS = 5
Whose = tuple[str | None, str | None, str, str]
Rated = tuple[str, int, float, float]
COLUMNS = (
    *("explainer", "control", "arm", "scorer", "metric", "band", "rate_low", "rate_high", "latents"),
    *("mean", "low", "high", "spearman", "spearman_low", "spearman_high"),
)


def firing(run: Run, scorer: str | None = None, metric: str | None = None) -> pd.DataFrame:
    """One row an arm, scorer and band of the firing rate, on the headline's rung.

    The rate is the share of windows that a latent fires in. Latents with a figure are cut into five bands of as many
    each, rare to frequent; ties go to the same band, so there may be fewer. Columns `explainer, control, arm,
    scorer, metric`, `band` from 1, `rate_low, rate_high` (of its latents), `latents`, `mean` with `low, high` (95 %
    BCa, missing below 20 latents), and, the same in all bands, `spearman` of figure and rate over all latents with its
    interval. Failed scores and latents whose rate is not known are in none.
    """
    table: list[dict[str, Any]] = []
    for (explainer, control, name, figure), pairs in figures_by_rate(run, scorer, metric).items():
        whose = {"explainer": explainer, "control": control, "arm": arm_label(explainer, control)}
        whose |= {"scorer": name, "metric": figure}
        rate, value = np.array([(rate, value) for _, _, rate, value in pairs], dtype=np.float64).T
        table += [{**whose, **line} for line in _bands(rate, value, run.seed)]
    return pd.DataFrame(table, columns=list(COLUMNS))


def base_rates(run: Run) -> dict[tuple[str, int], float]:
    """The share of windows that each latent fires in, of those that an explanation was drawn for."""
    return {
        (row["coder"], row["latent"]): row["base_rate"]
        for row in run.explanation_records()
        if row["base_rate"] is not None
    }


def figures_by_rate(run: Run, scorer: str | None = None, metric: str | None = None) -> dict[Whose, list[Rated]]:
    """What `firing` cuts into bands: by explainer, control, scorer and metric each latent's rate and figure.

    A latent is `(coder, index, rate, figure)`, the rate a share of windows in (0, 1].
    """
    rates = base_rates(run)
    found: defaultdict[Whose, list[Rated]] = defaultdict(list)
    figures = {name: metric or run.metric_of(name) for name in (run.scorers if scorer is None else (scorer,))}
    for row in run.score_records():
        figure = figures.get(row["scorer"])
        rate = rates.get((row["coder"], row["latent"]))
        if figure is None or rate is None or row["rung"] != run.rung or row["status"] != "ok":
            continue
        value = row["metrics"].get(figure)
        if value is not None:
            told = row["coder"], row["latent"], rate, float(value)
            found[row["explainer"], row["control"], row["scorer"], figure].append(told)
    return dict(found)


def _bands(rate: NDArray[np.float64], value: NDArray[np.float64], seed: int) -> list[dict[str, Any]]:
    told = correlation(rate, value)
    value_of_all = math.nan if told.value is None else told.value
    spearman = dict(zip(COLUMNS[-3:], (value_of_all, *ends(told.interval)), strict=True))
    edges = np.unique(np.quantile(rate, np.arange(1, BANDS) / BANDS))
    band = np.unique(np.searchsorted(edges, rate, side="right"), return_inverse=True)[1]
    lines = []
    for number in range(int(band.max()) + 1):
        inside = band == number
        low, high = ends(mean_interval(value[inside], seed=seed))
        lines.append(
            {
                "band": number + 1,
                "rate_low": float(rate[inside].min()),
                "rate_high": float(rate[inside].max()),
                "latents": int(inside.sum()),
                "mean": float(value[inside].mean()),
                "low": low,
                "high": high,
                **spearman,
            }
        )
    return lines
