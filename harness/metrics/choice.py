"""Figures of choices among several, one of which is right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

__all__ = ["choice"]


def choice(right: NDArray[np.bool_], options: int) -> dict[str, Any]:
    """The share of right choices, with Jeffreys' interval of 95 % (Brown, Cai and DasGupta 2001) and its chance.

    `right` is `[questions]`, those answered only; `options` is how many there were to choose from. `accuracy` and its
    ends are in [0, 1], None where nothing was answered.
    """
    found, count = int(right.sum()), len(right)
    low = 0.0 if found == 0 else float(beta.ppf(0.025, found + 0.5, count - found + 0.5))
    high = 1.0 if found == count else float(beta.ppf(0.975, found + 0.5, count - found + 0.5))
    share, low, high = (found / count, low, high) if count else (None, None, None)
    return {"accuracy": share, "accuracy_low": low, "accuracy_high": high, "chance": 1 / options, "questions": count}
