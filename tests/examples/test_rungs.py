"""Negatives of the rung `random`: silent, distinct, uniform."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from harness.examples.rungs import random_silent


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@given(st.sets(st.integers(0, 200)), st.sets(st.integers(0, 200)), st.integers(0, 60), st.integers(0, 99))
@settings(deadline=None, max_examples=200)
def test_negatives_are_distinct_silent_windows_of_the_pool(
    pool: set[int], activating: set[int], count: int, seed: int
) -> None:
    ids, active = (np.array(sorted(items), dtype=np.int64) for items in (pool, activating & pool))
    drawn = random_silent(ids, active, count, generator(seed)).tolist()
    assert len(drawn) == len(set(drawn)) == min(count, len(pool - activating))
    assert set(drawn) <= pool - activating


@pytest.mark.parametrize(("size", "active_every"), [(60, 3), (400, 4), (400, 2), (60, 60)])
def test_negatives_are_uniform(size: int, active_every: int) -> None:
    pool = np.arange(0, 7 * size, 7)
    active = pool[::active_every]
    silent = sorted(set(pool.tolist()) - set(active.tolist()))
    times: Counter[int] = Counter()
    first: Counter[int] = Counter()
    for seed in range(1500):
        drawn = random_silent(pool, active, 10, generator(seed)).tolist()
        times.update(drawn)
        first[drawn[0]] += 1
    scale = 1 - 10 / len(silent)
    statistic = chisquare([times[window] for window in silent]).statistic / scale
    assert abs(statistic - len(silent)) < 5 * np.sqrt(2 * len(silent))
    assert chisquare([first[window] for window in silent]).pvalue > 1e-4


def test_a_dense_latent_gives_what_it_has() -> None:
    pool = np.arange(1000)
    drawn = random_silent(pool, np.delete(pool, [5, 400, 999]), 100, generator(0))
    assert sorted(drawn.tolist()) == [5, 400, 999]
