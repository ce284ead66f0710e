"""The least-squares line of one figure on another over latents, with a jackknife interval of its slope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.intervals import MIN_LATENTS, Interval

__all__ = ["Regression", "regression"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Regression:
    """`slope` x + `intercept` over `n` latents; both None where x does not vary."""

    slope: float | None
    intercept: float | None
    interval: Interval | None
    n: int


def regression(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> Regression:
    """The least-squares line of `y` on `x`, one row a latent; rows in which either is NaN are left out.

    The interval is of the slope: Student's t times the jackknife's standard error (Efron and Tibshirani 1993, chapter
    11), each latent left out in turn, which holds where the spread of `y` changes with `x`. None below 20 latents, and
    where leaving out one leaves no slope.

    Raises:
        ValueError: the arrays differ in shape, or a figure is infinite.
    """
    first, second = (np.asarray(values, np.float64) for values in (x, y))
    if first.shape != second.shape or np.isinf(first).any() or np.isinf(second).any():
        raise ValueError("a regression needs as many finite figures on either side")
    kept = ~(np.isnan(first) | np.isnan(second))
    first, second = first[kept], second[kept]
    n = len(first)
    slope = _slopes(first[None], second[None])[0] if n else np.nan
    if np.isnan(slope):
        return Regression(None, None, None, n)
    return Regression(float(slope), float(second.mean() - slope * first.mean()), _interval(first, second, level), n)


def _interval(x: Floats, y: Floats, level: float) -> Interval | None:
    n = len(x)
    if n < MIN_LATENTS:
        return None
    from scipy.special import stdtrit  # here because importing it takes longer than a command that needs none

    # each row without one latent, by leaving its sums out of the whole's
    without = _slopes_without(x, y)
    if np.isnan(without).any():
        return None
    error = float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))
    slope, reach = float(_slopes(x[None], y[None])[0]), float(stdtrit(n - 2, (1 + level) / 2)) * error
    return Interval(slope - reach, slope + reach, level)


def _slopes(x: Floats, y: Floats) -> Floats:
    """The slope of each row `[rows, latents]`, NaN where x does not vary."""
    dx, dy = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    spread = np.square(dx).sum(1)
    varies = spread > 1e-24 * np.square(x).sum(1)
    return np.where(varies, (dx * dy).sum(1) / np.where(varies, spread, 1.0), np.nan)


def _slopes_without(x: Floats, y: Floats) -> Floats:
    """The slopes with each latent left out, `[latents]`, from deviations of the whole (Sherman and Morrison)."""
    n = len(x)
    dx, dy = x - x.mean(), y - y.mean()
    share = n / (n - 1)
    spread = np.square(dx).sum() - share * np.square(dx)
    varies = spread > 1e-12 * np.square(dx).sum()
    return np.where(varies, ((dx * dy).sum() - share * dx * dy) / np.where(varies, spread, 1.0), np.nan)
