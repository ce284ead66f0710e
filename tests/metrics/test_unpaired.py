from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.metrics import unpaired_interval
from harness.metrics.intervals import bootstrap_means
from harness.values import seed_of

Draw = Callable[[np.random.Generator, int], np.ndarray]


def _scipys(a: np.ndarray, b: np.ndarray, differences: np.ndarray, level: float) -> tuple[float, float]:
    """SciPy's two-sample BCa interval from given resamples."""

    class Given:
        bootstrap_distribution = differences

    def difference(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return x.mean(axis=axis) - y.mean(axis=axis)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = stats.bootstrap(
            (a, b), difference, n_resamples=0, bootstrap_result=Given(), confidence_level=level, method="BCa"
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (57, 33), (40, 300)])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_scipys_bca_at_the_widened_level(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.beta(6, 2, n), rng.beta(3, 3, m)
    first, second = (bootstrap_means(x, 4999, seed_of(seed, "unpaired", side)) for side, x in enumerate((a, b)))
    welch = stats.ttest_ind(a, b, equal_var=False)
    biased = a.var() / n + b.var() / m
    factor = np.sqrt((a.var(ddof=1) / n + b.var(ddof=1) / m) / biased)
    level = 2 * stats.norm.cdf(factor * stats.t.ppf(0.975, welch.df)) - 1
    got = unpaired_interval(a, b, seed=seed)
    assert got is not None
    np.testing.assert_allclose((got.low, got.high), _scipys(a, b, first - second, level), atol=1e-9)


def test_the_two_sides_are_not_drawn_alike() -> None:
    values = np.random.default_rng(0).normal(size=200)
    got = unpaired_interval(values, values, seed=3)
    assert got is not None
    welch = stats.ttest_ind(values, values, equal_var=False).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((welch.low, welch.high), rel=0.08)


def test_which_side_comes_first_turns_the_sign() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.beta(6, 2, 400), rng.beta(3, 3, 300)
    one, other = unpaired_interval(a, b), unpaired_interval(b, a)
    assert one is not None
    assert other is not None
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=0.003)


def test_a_side_that_does_not_vary_leaves_the_others_spread() -> None:
    values = np.random.default_rng(1).beta(6, 2, 50)
    for constant in (0.5, 0.0):
        got = unpaired_interval(values, np.full(30, constant), seed=1)
        assert got is not None
        assert got.low < values.mean() - constant < got.high


@pytest.mark.parametrize(
    ("a", "b"),
    [([0.5, 0.6] * 10, [0.1, 0.2] * 9), ([0.5, 0.6] * 9, [0.1, 0.2] * 10), ([0.5] * 30, [0.2] * 30), ([], [])],
)
def test_there_is_none_where_a_side_is_small_or_neither_varies(a: list[float], b: list[float]) -> None:
    assert unpaired_interval(a, b) is None


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        unpaired_interval([0.5] * 20, [float("nan"), *[0.5] * 20])


def _ceiling(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.minimum(1, np.round(rng.beta(8, 1.5, n) * 200) / 200)


def _low(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.round(rng.beta(2, 5, n) * 20) / 20


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("n", "m"), [(20, 20), (20, 80), (200, 40)])
@pytest.mark.parametrize(("first", "second"), [(_ceiling, _low), (_ceiling, _ceiling), (_low, _ceiling)])
def test_intervals_cover_as_often_as_they_say(first: Draw, second: Draw, n: int, m: int) -> None:
    big = np.random.default_rng(0)
    truth = first(big, 2_000_000).mean() - second(big, 2_000_000).mean()
    rng = np.random.default_rng(1)
    found = [unpaired_interval(first(rng, n), second(rng, m), resamples=1999, seed=seed) for seed in range(2000)]
    covers = np.mean([interval is not None and truth in interval for interval in found])
    # 2,000 replicates tell the coverage to 0.01
    assert 0.93 <= covers <= 0.975
