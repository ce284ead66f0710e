"""Correlations of simulated strengths equal SciPy's over concatenated tokens, and are missing where there are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.metrics.simulation import pearson, simulation


@pytest.mark.parametrize("seed", range(10))
def test_the_correlation_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(int(rng.integers(1, 20)), 8))
    second = rng.normal(size=first.shape) + rng.uniform(-2, 2) * first
    assert pearson(first, second) == pytest.approx(stats.pearsonr(first.ravel(), second.ravel()).statistic, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_ties_and_missing_numbers_are_as_numpy_has_them_without_these_places(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # whole strengths, most of them 0, as they come
    actual = np.where(rng.random((30, 32)) < 0.1, rng.integers(1, 11, (30, 32)), 0).astype(np.float16)
    predicted = np.where(rng.random((30, 32)) < 0.7, actual, rng.integers(0, 11, (30, 32))).astype(np.float16)
    predicted[rng.random(30) < 0.2] = np.nan  # windows that failed
    actual[-1, 20:] = np.nan  # a window that is shorter
    both = zip(predicted.ravel().tolist(), actual.ravel().tolist(), strict=True)
    pairs = [pair for pair in both if not any(map(math.isnan, pair))]
    assert pearson(predicted, actual) == pytest.approx(np.corrcoef(np.array(pairs).T)[0, 1], abs=1e-12)


def test_it_does_not_depend_on_scale_and_offset_and_stays_within_one() -> None:
    x = np.random.default_rng(0).normal(size=1000)
    assert pearson(x, 3 * x + 1e6) == pytest.approx(1, abs=1e-9)
    assert pearson(x, -0.001 * x) == pytest.approx(-1, abs=1e-12)
    thirds = np.array([1, 2, 4]) / 3
    assert abs(pearson(thirds, 7 * thirds) or 0) <= 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.0, 0.0, 0.0], [0.0, 5.0, 1.0]),
        ([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]),
        ([0.1] * 7, list(range(7))),  # whose mean is not quite 0.1
        ([2.0], [3.0]),
        ([], []),
        ([np.nan, np.nan], [1.0, 2.0]),
        ([1.0, np.nan, 1.0], [1.0, 2.0, 3.0]),  # constant where both have a number
        ([1.0, np.nan], [np.nan, 2.0]),
    ],
)
def test_where_one_side_is_constant_or_nothing_is_there_the_correlation_is_missing(
    first: list[float], second: list[float]
) -> None:
    assert pearson(first, second) is None
    assert pearson(second, first) is None


def _windows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    quantile = np.repeat([0, 1, 5, 10], 6)
    actual = np.where(rng.random((24, 16)) < 0.2, rng.integers(1, 11, (24, 16)), 0) * (quantile > 0)[:, None]
    predicted = np.where(rng.random((24, 16)) < 0.6, actual, rng.integers(0, 11, (24, 16))).astype(float)
    predicted[3], predicted[8] = np.nan, 0
    return predicted, actual.astype(float), quantile


def _over_tokens(predicted: np.ndarray, actual: np.ndarray, rows: list[int]) -> float:
    """SciPy's correlation over the tokens of some windows, one after the other."""
    ours, theirs = [], []
    for row in rows:
        for place in range(predicted.shape[1]):
            if not np.isnan(predicted[row, place]):
                ours.append(predicted[row, place])
                theirs.append(actual[row, place])
    return float(stats.pearsonr(ours, theirs).statistic)


def test_each_figure_is_one_correlation_over_the_tokens_of_its_windows() -> None:
    predicted, actual, quantile = _windows()
    found = simulation(predicted, actual, quantile)
    assert found["pearson"] == pytest.approx(_over_tokens(predicted, actual, list(range(24))))
    firing = [row for row in range(24) if quantile[row] > 0]
    assert found["pearson_activating"] == pytest.approx(_over_tokens(predicted, actual, firing))
    assert set(found["by_quantile"]) == {"1", "5", "10"}
    for label, value in found["by_quantile"].items():
        rows = [row for row in firing if quantile[row] == int(label)]
        assert value == pytest.approx(_over_tokens(predicted, actual, rows))


def test_it_is_no_mean_of_correlations_window_by_window() -> None:
    # within each window they agree, and between the windows not at all
    predicted, actual = np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [9.0, 10.0]])
    found = simulation(predicted, actual, np.array([1, 1]))
    assert [pearson(p, a) for p, a in zip(predicted, actual, strict=True)] == [1.0, 1.0]
    assert found["pearson"] == pytest.approx(1 / np.sqrt(82))  # by hand: covariance 1/4, deviations 1/2 and sqrt(82)/2


def test_a_quantile_without_a_correlation_is_there_and_missing() -> None:
    predicted, actual = np.array([[0.0, 0.0], [0.0, 3.0]]), np.array([[0.0, 5.0], [0.0, 4.0]])
    found = simulation(predicted, actual, np.array([1, 2]))
    assert found["by_quantile"] == {"1": None, "2": pytest.approx(1.0)}
    silent = simulation(predicted, 0 * actual, np.array([0, 0]))
    assert silent == {"pearson": None, "pearson_activating": None, "by_quantile": {}}
