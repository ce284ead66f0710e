from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.metrics import Interval, mean_interval, median_interval
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


@pytest.mark.parametrize("n", [20, 21, 40, 57, 300])
def test_the_medians_interval_lies_between_the_exact_ones_order_statistics(n: int) -> None:
    sample = np.sort(np.random.default_rng(n).beta(6, 2, n))
    got = median_interval(sample)
    assert got is not None
    # the exact interval, at least at this level (Conover 1999), and the next one, below it
    outer = int(stats.binom.ppf(0.025, n, 0.5))
    assert stats.binom.cdf(outer - 1, n, 0.5) <= 0.025 < stats.binom.cdf(outer, n, 0.5)
    assert sample[outer - 1] <= got.low <= sample[outer]
    assert sample[n - outer - 1] <= got.high <= sample[n - outer]


def test_the_medians_interval_on_a_worked_example() -> None:
    # n = 20: ranks 6 and 15 hold the median in 95.861 of 100 studies, 7 and 14 in 88.468
    excess = (0.958611 - 0.95) / (0.958611 - 0.884682)
    inward = 14 * excess / (6 + 8 * excess)
    got = median_interval(np.arange(1, 21))
    assert got is not None
    assert (got.low, got.high) == pytest.approx((6 + inward, 15 - inward), abs=1e-4)


def test_the_medians_interval_does_not_mind_order_or_outliers() -> None:
    sample = np.random.default_rng(0).random(50)
    far = np.where(sample == sample.max(), 1e9, sample)
    assert median_interval(sample) == median_interval(far[::-1])
    assert median_interval(sample, level=0.9) != median_interval(sample)


def test_most_latents_at_a_ceiling_have_the_median_there() -> None:
    got = median_interval([1.0] * 30 + [0.8] * 5)
    assert got == Interval(1.0, 1.0)


def test_too_few_values_have_no_medians_interval_and_missing_ones_are_refused() -> None:
    assert median_interval([]) is None
    assert median_interval(np.linspace(0, 1, 19)) is None
    assert median_interval(np.linspace(0, 1, 20), level=0.9999999) is None
    with pytest.raises(ValueError, match="finite"):
        median_interval([0.5, np.nan] * 20)


def _ceiling(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    return np.where(rng.random(n) < share, 1.0, np.round(rng.uniform(0.5, 1, n) * 200) / 200)


def _clipped(rng: np.random.Generator, n: int, lift: float) -> np.ndarray:
    return np.minimum(1, np.round((rng.beta(6, 2, n) + lift) * 200) / 200)


SCORES: dict[str, Draw] = {
    "skewed": lambda rng, n: rng.beta(1, 4, n),
    "in steps": lambda rng, n: np.round(rng.beta(6, 2, n) * 200) / 200,
    "near a ceiling": lambda rng, n: _ceiling(rng, n, 0.4),
    "at a ceiling": lambda rng, n: _ceiling(rng, n, 0.6),
    "paired, in steps": lambda rng, n: np.round((rng.beta(6, 2, n) - rng.beta(6, 2, n)) * 200) / 200,
    "paired, at a ceiling": lambda rng, n: _clipped(rng, n, 0.25) - _clipped(rng, n, 0.2),
    "paired, skewed": lambda rng, n: rng.beta(1, 4, n) - 0.3 * rng.beta(1, 6, n),
}


def _covers(interval: Callable[[np.ndarray, int], Interval | None], draw: Draw, n: int, truth: float) -> float:
    rng = np.random.default_rng(1)
    found = [interval(draw(rng, n), seed) for seed in range(2000)]
    return float(np.mean([each is not None and truth in each for each in found]))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("n", [20, 40, 300])
@pytest.mark.parametrize("name", sorted(SCORES))
def test_intervals_of_means_cover_as_often_as_they_say(name: str, n: int) -> None:
    draw = SCORES[name]
    truth = draw(np.random.default_rng(0), 4_000_000).mean()
    covers = _covers(lambda sample, seed: mean_interval(sample, resamples=1999, seed=seed), draw, n, truth)
    assert 0.93 <= covers <= 0.97


@pytest.mark.parametrize("n", [20, 40, 300])
@pytest.mark.parametrize("name", ["skewed", "in steps", "near a ceiling", "paired, in steps"])
def test_intervals_of_medians_cover_as_often_as_they_say(name: str, n: int) -> None:
    draw = SCORES[name]
    truth = float(np.median(draw(np.random.default_rng(0), 1_000_001)))
    assert 0.93 <= _covers(lambda sample, _: median_interval(sample), draw, n, truth) <= 0.97


@pytest.mark.parametrize("n", [20, 40, 300])
@pytest.mark.parametrize("step", [0.05, 0.1, 0.25])
def test_where_many_latents_share_the_median_its_interval_covers_more_often(n: int, step: float) -> None:
    def coarse(rng: np.random.Generator, n: int) -> np.ndarray:
        return np.round(rng.beta(6, 2, n) / step) * step

    for draw in (SCORES["at a ceiling"], coarse):
        truth = float(np.median(draw(np.random.default_rng(0), 1_000_001)))
        assert _covers(lambda sample, _: median_interval(np.round(sample, 9)), draw, n, round(truth, 9)) >= 0.94
