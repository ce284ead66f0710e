"""Figures of simulated strengths against the true ones (paper section 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["pearson", "simulation"]


def pearson(first: ArrayLike, second: ArrayLike) -> float | None:
    """Pearson's correlation over all places where both have a number; None where either is constant there.

    Both are of one shape; NaN is a missing number. The result is in [-1, 1].
    """
    x, y = np.asarray(first, np.float64).ravel(), np.asarray(second, np.float64).ravel()
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    if not len(x) or x.min() == x.max() or y.min() == y.max():
        return None
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def simulation(
    predicted: NDArray[np.floating], actual: NDArray[np.floating], quantile: NDArray[np.integer]
) -> dict[str, Any]:
    """Correlations of predicted with actual strengths, each over the concatenation of all tokens of its windows.

    Args:
        predicted: `[examples, positions]`, NaN where there is none.
        actual: the same shape.
        quantile: `[examples]`, 1 to 10, or 0 for non-activating windows.

    Returns:
        `pearson` over all windows, `pearson_activating` over the activating ones, and `by_quantile`, for each quantile
        ("1" to "10") over its activating windows alone; None where undefined.
    """
    return {
        "pearson": pearson(predicted, actual),
        "pearson_activating": pearson(predicted[quantile > 0], actual[quantile > 0]),
        "by_quantile": {
            str(each): pearson(predicted[quantile == each], actual[quantile == each])
            for each in np.unique(quantile[quantile > 0]).tolist()
        },
    }
