"""Krippendorff's alpha against his own example, a naive count of pairs, and another implementation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.metrics.agreement import agreement

NAN = np.nan
# Krippendorff 2011, section C: four observers, twelve units
EXAMPLE = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


def naive(ratings: np.ndarray, categories: int) -> float:
    """Disagreement of pairs within items over that of pairs anywhere, each pair looked at by itself."""
    items = [[int(v) for v in column if not np.isnan(v)] for column in ratings.T]
    items = [values for values in items if len(values) > 1]
    every = [value for values in items for value in values]
    counts = {c: every.count(c) for c in range(1, categories + 1)}

    def distance(a: int, b: int) -> float:
        low, high = min(a, b), max(a, b)
        return (sum(counts[c] for c in range(low, high + 1)) - (counts[low] + counts[high]) / 2) ** 2

    within = sum(
        distance(a, b) / (len(values) - 1) for values in items for a, b in itertools.permutations(values, 2)
    ) / len(every)
    anywhere = sum(distance(a, b) for a, b in itertools.permutations(every, 2)) / (len(every) * (len(every) - 1))
    return 1 - within / anywhere


def test_the_example_of_the_book() -> None:
    found = agreement(EXAMPLE, 5)
    assert found.value == pytest.approx(0.815, abs=5e-4)
    assert (found.items, found.raters) == (11, 4)


@pytest.mark.parametrize("seed", range(5))
def test_as_counted_pair_by_pair(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ratings = generator.integers(1, 5, (3, 30)).astype(float)
    ratings[generator.random(ratings.shape) < 0.3] = NAN
    assert agreement(ratings, 4).value == pytest.approx(naive(ratings, 4))


@pytest.mark.foreign
def test_as_another_library_has_it() -> None:
    krippendorff = pytest.importorskip("krippendorff")
    generator = np.random.default_rng(0)
    ratings = generator.integers(1, 5, (4, 50)).astype(float)
    ratings[generator.random(ratings.shape) < 0.2] = NAN
    theirs = krippendorff.alpha(reliability_data=ratings, level_of_measurement="ordinal")
    assert agreement(ratings, 4).value == pytest.approx(theirs)


def test_the_ends_are_one_and_about_zero() -> None:
    same = np.tile(np.random.default_rng(1).integers(1, 5, 40), (2, 1))
    assert agreement(same, 4).value == 1
    chance = np.random.default_rng(2).integers(1, 5, (2, 4000))
    assert abs(agreement(chance, 4, draws=10).value or 1) < 0.05


def test_what_is_not_defined_is_none() -> None:
    assert agreement([[1, 2, NAN], [NAN, NAN, 3]], 4).value is None
    assert agreement([[2, 2], [2, 2]], 4).value is None
    assert agreement(np.empty((0, 0)), 4).value is None
    assert agreement([[1, 2], [1, 3]], 4).interval is None
    with pytest.raises(ValueError, match="whole numbers from 1 to 4"):
        agreement([[5.0], [1.0]], 4)


def test_the_interval_covers_the_truth() -> None:
    """Raters who take the truth with probability 0.7 and else guess; alpha of very many items is what is covered."""

    def rated(items: int, seed: int) -> np.ndarray:
        generator = np.random.default_rng(seed)
        truth = generator.integers(1, 5, items)
        return np.where(generator.random((2, items)) < 0.7, truth, generator.integers(1, 5, (2, items)))

    whole = agreement(rated(200_000, 0), 4, draws=1).value
    assert whole is not None
    covered = 0
    for seed in range(1, 101):
        interval = agreement(rated(60, seed), 4, draws=300, seed=seed).interval
        assert interval is not None
        covered += interval.low <= whole <= interval.high
    assert covered >= 88
