from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.metrics import Interval, mean_interval
from harness.metrics.intervals import bootstrap_means

Draw = Callable[[np.random.Generator, int], np.ndarray]


def _bca(sample: np.ndarray, means: np.ndarray, level: float) -> tuple[float, float]:
    """SciPy's BCa interval from given resamples."""

    class Given:
        bootstrap_distribution = means

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = stats.bootstrap(
            (sample,), np.mean, n_resamples=0, bootstrap_result=Given(), confidence_level=level, method="BCa"
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


@pytest.mark.parametrize("n", [20, 57, 300])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_scipys_bca_at_the_widened_level(n: int, seed: int) -> None:
    sample = np.random.default_rng(seed).beta(6, 2, n)
    means = bootstrap_means(sample, 4999, seed)
    wide = 2 * stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1)) - 1
    got = mean_interval(sample, seed=seed)
    assert got is not None
    np.testing.assert_allclose((got.low, got.high), _bca(sample, means, wide), atol=1e-9)


@pytest.mark.parametrize("n", [40, 200])
def test_resampled_means_are_distributed_as_a_plain_bootstraps(n: int) -> None:
    # 200 latents in steps of 1/20 are drawn by value, 40 by index
    sample = np.round(np.random.default_rng(0).beta(6, 2, n) * 20) / 20
    plain = np.array([np.random.default_rng(seed).choice(sample, n).mean() for seed in range(10_000)])
    ours = bootstrap_means(sample, 20_000, 2)
    assert stats.ks_2samp(np.round(plain, 9), np.round(ours, 9)).pvalue > 0.001


def test_the_same_seed_gives_the_same_interval() -> None:
    sample = np.random.default_rng(0).random(50)
    assert mean_interval(sample, seed=3) == mean_interval(sample, seed=3) != mean_interval(sample, seed=4)


def test_order_and_offset_do_not_matter() -> None:
    sample = np.random.default_rng(0).integers(0, 200, 60) / 200
    here, there = mean_interval(sample, seed=1), mean_interval(sample[::-1] - 5, seed=1)
    assert here is not None
    assert there is not None
    np.testing.assert_allclose((here.low - 5, here.high - 5), (there.low, there.high), atol=1e-9)


@pytest.mark.parametrize("values", [[], [0.5], np.linspace(0, 1, 19), np.ones(40), np.full(30, 0.1 + 0.2)])
def test_too_few_or_equal_values_have_no_interval(values: np.ndarray) -> None:
    assert mean_interval(values) is None


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval([0.5, np.nan] * 20)


def test_an_interval_knows_what_it_holds() -> None:
    interval = Interval(-0.01, 0.015, 0.9)
    assert 0.0 in interval
    assert 0.02 not in interval
    assert interval.inside(0.02)
    assert not interval.inside(0.015)


def test_many_continuous_values_take_bounded_work() -> None:
    sample = np.random.default_rng(0).normal(size=4_000)
    assert len(bootstrap_means(sample, 9999, 0)) == 2000
    got = mean_interval(sample)
    assert got is not None
    assert got.high - got.low == pytest.approx(2 * 1.96 / np.sqrt(4_000), rel=0.15)


SCORES: dict[str, Draw] = {
    "skewed": lambda rng, n: rng.beta(1, 4, n),
    "in steps": lambda rng, n: np.round(rng.beta(6, 2, n) * 200) / 200,
    "at a ceiling": lambda rng, n: np.where(rng.random(n) < 0.6, 1.0, np.round(rng.uniform(0.5, 1, n) * 200) / 200),
    "paired": lambda rng, n: np.round((rng.beta(6, 2, n) - rng.beta(6, 2, n)) * 200) / 200,
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("n", [20, 40, 300])
@pytest.mark.parametrize("name", sorted(SCORES))
def test_intervals_cover_as_often_as_they_say(name: str, n: int) -> None:
    draw = SCORES[name]
    truth = draw(np.random.default_rng(0), 4_000_000).mean()
    rng = np.random.default_rng(1)
    intervals = [mean_interval(draw(rng, n), resamples=1999, seed=seed) for seed in range(2000)]
    covers = np.mean([interval is not None and truth in interval for interval in intervals])
    # 2,000 replicates tell the coverage to 0.01; 0.025 more for what 20 values of a ceiling can do
    assert 0.93 <= covers <= 0.975
