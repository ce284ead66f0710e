"""Figures of numbers that order examples, without labels: surprisal, similarity (paper sections 7 and 8)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.metrics.classification import auroc, average_precision

__all__ = ["ranking"]


def ranking(truth: ArrayLike, values: ArrayLike, quantiles: ArrayLike) -> dict[str, Any]:
    """How well values tell activating from silent windows, whatever their scale.

    Args:
        truth: `[examples]`, 1 or true where the latent fires.
        values: `[examples]`, higher for those that fit better; NaN where there is none, which is left out.
        quantiles: `[examples]`, 1 to 10 for activating windows, 0 for silent ones.

    Returns:
        `auroc` and `average_precision`, and `by_quantile`: for each quantile ("1" to "10") the AUROC of its windows
        against all silent ones. None where a class has no value.
    """
    number = np.asarray(values, np.float64)
    has = ~np.isnan(number)
    true, number, quantile = np.asarray(truth, bool)[has], number[has], np.asarray(quantiles)[has]
    return {
        "auroc": _number(auroc(true, number)),
        "average_precision": _number(average_precision(true, number)),
        "by_quantile": {
            str(each): _number(auroc(true[kept], number[kept]))
            for each in np.unique(quantile[true & (quantile > 0)]).tolist()
            for kept in [~true | (quantile == each)]
        },
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
