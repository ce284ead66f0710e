"""Figures of choices among several, one of which is right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.shares import jeffreys

__all__ = ["choice"]


def choice(right: NDArray[np.bool_], options: int) -> dict[str, Any]:
    """The share of right choices, with Jeffreys' interval of 95 % (Brown, Cai and DasGupta 2001) and its chance.

    `right` is `[questions]`, those answered only; `options` is how many there were to choose from. `accuracy` and its
    ends are in [0, 1], None where nothing was answered.
    """
    found, count = int(right.sum()), len(right)
    interval = jeffreys(found, count)
    share, low, high = (None, None, None) if interval is None else (found / count, interval.low, interval.high)
    return {"accuracy": share, "accuracy_low": low, "accuracy_high": high, "chance": 1 / options, "questions": count}
