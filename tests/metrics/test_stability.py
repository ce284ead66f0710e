"""Rank stability against SciPy, against counting, and against what a bivariate normal gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from harness.metrics.stability import rank_stability, top_share


def _replicates(generator: np.random.Generator, n: int, noise: float) -> list[tuple[np.ndarray, np.ndarray]]:
    truth = generator.normal(size=n)
    draws = [truth + noise * generator.normal(size=n) for _ in range(4)]
    return [(draws[a], draws[b]) for a in range(4) for b in range(a)]


@pytest.mark.parametrize("steps", [1000, 4])
def test_tau_is_the_mean_of_kendalls(steps: int) -> None:
    pairs = [
        (np.round(a * steps) / steps, np.round(b * steps) / steps)
        for a, b in _replicates(np.random.default_rng(0), 25, 0.5)
    ]
    expected = np.mean([kendalltau(a, b).statistic for a, b in pairs])
    assert rank_stability(pairs, 5).tau == pytest.approx(expected)


def test_tau_is_what_the_noise_leaves_of_it() -> None:
    # correlation 1 / (1 + noise²), and tau of a bivariate normal is 2 asin(r) / pi (Kruskal 1958)
    noise = 0.7
    taus = [rank_stability(_replicates(np.random.default_rng(seed), 60, noise), 5).tau for seed in range(60)]
    expected = 2 / np.pi * np.arcsin(1 / (1 + noise**2))
    error = np.std(np.array(taus, float)) / np.sqrt(60)
    assert abs(np.mean(np.array(taus, float)) - expected) < 4 * error


@pytest.mark.slow
def test_the_interval_covers_what_the_noise_leaves() -> None:
    noise, covered, times = 0.7, 0, 200
    expected = 2 / np.pi * np.arcsin(1 / (1 + noise**2))
    for seed in range(times):
        interval = rank_stability(_replicates(np.random.default_rng(seed), 40, noise), 5).interval
        covered += interval is not None and expected in interval
    assert 0.91 * times <= covered <= times


def test_the_overlap_is_counted() -> None:
    a, b = np.array([9.0, 8, 7, 1, 2, 3]), np.array([9.0, 1, 8, 7, 2, 3])
    told = rank_stability([(a, b)], 3)
    assert told.overlap == pytest.approx(2 / 3)
    assert (told.top, told.latents, told.pairs) == (3, 6, 1)
    direct = len(set(np.argsort(-a)[:3]) & set(np.argsort(-b)[:3])) / 3
    assert told.overlap == pytest.approx(direct)


def test_ties_at_the_edge_share_the_places_left() -> None:
    share = top_share(np.array([5.0, 3, 3, 3, 1]), 2)
    assert share.tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 0])
    # level scores: the overlap of two random tops
    told = rank_stability([(np.zeros(10), np.zeros(10))], 4)
    assert told.overlap == pytest.approx(0.4)
    assert told.tau is None


def test_below_twenty_latents_there_is_no_interval() -> None:
    assert rank_stability(_replicates(np.random.default_rng(0), 19, 1.0), 5).interval is None
    assert rank_stability(_replicates(np.random.default_rng(0), 20, 1.0), 5).interval is not None


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="there is none"):
        rank_stability([], 1)
    with pytest.raises(ValueError, match="1 to 3 places"):
        rank_stability([(np.arange(3), np.arange(3))], 4)
    with pytest.raises(ValueError, match="each of the same latents"):
        rank_stability([(np.arange(3), np.arange(4))], 1)
