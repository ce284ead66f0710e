"""The jackknife over latents: how sure a correlation is where a latent may have several rows."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.intervals import MIN_LATENTS, Interval

__all__ = ["MAX_GROUPS", "fisher_interval", "latent_groups"]

Floats = NDArray[np.float64]

# More latents are left out some at a time, in at most this many groups: the work stays bounded, and 100 degrees of
# freedom make an interval 1 % wider than endlessly many.
MAX_GROUPS = 200
# Numbers in one block of weights.
BLOCK = 4_000_000
# Correlations nearer to 1 than this count as 1: what is left is floating-point noise.
NEAR_ONE = 1e-9


def latent_groups(latents: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """Which group each row belongs to, `[rows]`, and how many groups there are.

    A group is the rows of one latent; of two, three, ... latents where there are more than 200, 400, ... of them.
    """
    names, group = np.unique(np.asarray(latents), return_inverse=True)
    # as many latents in each group, give or take one: groups of one and of two would bias the standard error
    groups = -(-len(names) // max(1, -(-len(names) // MAX_GROUPS)))
    return group.reshape(-1) % max(groups, 1), groups


def fisher_interval(
    statistic: Callable[[Floats], Floats],
    latents: ArrayLike,
    *,
    level: float,
    least_error: float = 0.0,
    corrected: bool = True,
    cells: NDArray[np.intp] | None = None,
) -> Interval | None:
    """The jackknife's interval of a correlation, on Fisher's scale z = artanh r.

    `statistic` gives the correlation for weights of the rows, `[draws, rows]` to `[draws]`, NaN where it is not
    defined. Each latent is left out in turn with all its rows (Efron and Tibshirani 1993, chapters 10 and 11). The
    interval is z, less the jackknife's estimate of its bias, with Student's t times the jackknife's standard error;
    not `corrected`, it is z itself with the normal's quantile. The error is at least `least_error`. None below 20
    latents, where all rows lie on a line, and where leaving out one latent leaves no correlation.

    Where many rows are alike `cells` says which cell each lies in, `[rows]`, and `statistic` takes weights of cells.
    """
    group, groups = latent_groups(latents)
    if groups < MIN_LATENTS:
        return None
    cells = np.arange(len(group)) if cells is None else cells
    every = np.bincount(cells).astype(np.float64)
    whole = float(statistic(every[None])[0])
    rows = max(1, BLOCK // len(every))
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(groups + 1))
    left_out = [order[starts[at] : starts[at + 1]] for at in range(groups)]
    without = np.concatenate(
        [
            statistic(
                np.stack([every - np.bincount(cells[out], minlength=len(every)) for out in left_out[at : at + rows]])
            )
            for at in range(0, groups, rows)
        ]
    )
    if np.isnan(without).any() or np.isnan(whole) or 1 - abs(whole) < NEAR_ONE:
        return None
    z, each = (np.arctanh(np.clip(r, NEAR_ONE - 1, 1 - NEAR_ONE)) for r in (whole, without))
    error = max(float(np.sqrt((groups - 1) / groups * np.square(each - each.mean()).sum())), least_error)
    if corrected:
        from scipy.special import stdtrit

        centre = float((groups * z - (groups - 1) * each).mean())
        reach = float(stdtrit(groups - 1, (1 + level) / 2)) * error
    else:
        centre, reach = float(z), NormalDist().inv_cdf((1 + level) / 2) * error
    return Interval(float(np.tanh(centre - reach)), float(np.tanh(centre + reach)), level)
