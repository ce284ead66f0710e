"""Lines over latents: NumPy's slope, a jackknife by hand, and what has no slope."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from harness.metrics import regression


def drawn(n: int, slope: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = draw.uniform(0, 1, n)
    return x, slope * x + draw.normal(0, 0.1 + x, n)


def test_the_line_is_numpy_s_and_rows_with_nothing_on_a_side_are_left_out() -> None:
    x, y = drawn(50, -0.7)
    slope, intercept = np.polyfit(x, y, 1)
    found = regression([*x, np.nan, 1.0], [*y, 2.0, np.nan])
    assert (found.slope, found.intercept, found.n) == (
        pytest.approx(slope), pytest.approx(intercept), 50,
    )  # fmt: skip


def test_the_interval_is_a_jackknife_s_by_hand() -> None:
    x, y = drawn(30, 1.5)
    left = [np.polyfit(np.delete(x, at), np.delete(y, at), 1)[0] for at in range(30)]
    error = np.sqrt(29 / 30 * np.square(np.array(left) - np.mean(left)).sum())
    slope, reach = np.polyfit(x, y, 1)[0], t.ppf(0.975, 28) * error
    found = regression(x, y)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((slope - reach, slope + reach))


def test_intervals_hold_the_slope_as_often_as_they_say_where_spread_grows_with_x() -> None:
    inside = 0
    for seed in range(400):
        interval = regression(*drawn(40, 0.8, seed)).interval
        inside += interval is not None and 0.8 in interval
    assert 0.92 < inside / 400 < 0.985


def test_what_does_not_vary_has_no_slope_and_few_latents_no_interval() -> None:
    assert regression([0.5] * 30, np.arange(30.0)).slope is None
    assert regression([], []).n == 0
    x, y = drawn(19, 1.0)
    assert regression(x, y).interval is None
    assert regression(x, y).slope is not None
    # without the only one that differs there is no slope
    assert regression([0.0] * 24 + [1.0], np.arange(25.0)).interval is None
    with pytest.raises(ValueError, match="finite"):
        regression([1.0, np.inf], [1.0, 2.0])
