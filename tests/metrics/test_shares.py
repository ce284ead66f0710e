"""Intervals of shares: by the formula, and by how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from harness.metrics import Interval, difference_interval, jeffreys
from harness.metrics.choice import choice


@pytest.mark.parametrize(("found", "count"), [(0, 7), (7, 7), (1, 7), (40, 80), (79, 80), (1, 1)])
def test_jeffreys_interval_has_the_quantiles_of_the_posterior(found: int, count: int) -> None:
    low, high = beta(found + 0.5, count - found + 0.5).interval(0.95)
    # Brown, Cai and DasGupta set the end to 0 and 1 where nothing, or everything, was found
    wanted = Interval(0.0 if found == 0 else low, 1.0 if found == count else high)
    interval = jeffreys(found, count)
    assert interval is not None
    assert interval.low == pytest.approx(wanted.low)
    assert interval.high == pytest.approx(wanted.high)


def test_nothing_counted_has_no_interval() -> None:
    assert jeffreys(0, 0) is None
    assert difference_interval((0, 0), (3, 5)) is None
    assert difference_interval((3, 5), (0, 0)) is None


def test_choices_have_the_same_interval() -> None:
    found, interval = choice(np.array([True, True, False]), 5), jeffreys(2, 3)
    assert interval is not None
    assert (found["accuracy_low"], found["accuracy_high"]) == (interval.low, interval.high)


def test_a_difference_squares_and_adds_the_distances_to_the_ends_of_its_shares() -> None:
    one, other = jeffreys(18, 20), jeffreys(3, 30)
    found = difference_interval((18, 20), (3, 30))
    assert one is not None
    assert other is not None
    assert found is not None
    assert found.low == pytest.approx(0.8 - ((0.9 - one.low) ** 2 + (other.high - 0.1) ** 2) ** 0.5)
    assert found.high == pytest.approx(0.8 + ((one.high - 0.9) ** 2 + (0.1 - other.low) ** 2) ** 0.5)


def test_a_difference_stays_within_its_range_and_changes_sign_with_its_sides() -> None:
    found, back = difference_interval((5, 5), (0, 5)), difference_interval((0, 5), (5, 5))
    assert found is not None
    assert back is not None
    assert found.high == 1.0
    assert (back.low, back.high) == (-found.high, -found.low)


@pytest.mark.parametrize(("p", "n", "q", "m"), [(0.8, 50, 0.2, 50), (0.9, 50, 0.1, 30), (0.5, 40, 0.5, 40)])
def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says(p: float, n: int, q: float, m: int) -> None:
    chance = np.random.default_rng(0)
    pairs = list(zip(chance.binomial(n, p, 2000).tolist(), chance.binomial(m, q, 2000).tolist(), strict=True))
    known = {pair: difference_interval((pair[0], n), (pair[1], m)) for pair in set(pairs)}
    held = [(interval := known[pair]) is not None and p - q in interval for pair in pairs]
    assert 0.93 <= np.mean(held) <= 0.98
