"""Intervals of shares: of one, and of the difference of two."""

from __future__ import annotations

import math

from harness.metrics.intervals import Interval

__all__ = ["difference_interval", "jeffreys"]


def jeffreys(found: int, count: int) -> Interval | None:
    """Jeffreys' interval of 95 % of the share `found / count` (Brown, Cai and DasGupta 2001, section 4.1).

    Both are whole numbers, `0 <= found <= count`; the ends are in [0, 1], None where nothing was counted.
    """
    from scipy.stats import beta

    if not count:
        return None
    low = 0.0 if found == 0 else float(beta.ppf(0.025, found + 0.5, count - found + 0.5))
    high = 1.0 if found == count else float(beta.ppf(0.975, found + 0.5, count - found + 0.5))
    return Interval(low, high)


def difference_interval(first: tuple[int, int], second: tuple[int, int]) -> Interval | None:
    """The interval of 95 % of one share minus an independent other, each given as `(found, count)`.

    From the intervals of the shares, Jeffreys' here, as in the square-and-add method (Newcombe 1998, method 10, there
    with Wilson's). The ends are in [-1, 1]; None where one side has no count.
    """
    one, other = jeffreys(*first), jeffreys(*second)
    if one is None or other is None:
        return None
    p, q = first[0] / first[1], second[0] / second[1]
    low = p - q - math.hypot(p - one.low, other.high - q)
    high = p - q + math.hypot(one.high - p, q - other.low)
    return Interval(max(low, -1.0), min(high, 1.0))
