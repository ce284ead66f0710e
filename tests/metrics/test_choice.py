"""The share of right choices and Jeffreys' interval, against SciPy and a naive integration of the posterior."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.metrics.choice import choice


def _choices(right: int, count: int) -> np.ndarray:
    made = np.zeros(count, bool)
    made[:right] = True
    return np.random.default_rng(count).permutation(made)


def _naive(right: int, count: int, share: float) -> float:
    """The quantile of the posterior under Jeffreys' prior, which is even over the angle whose sine squared is p."""
    angles = np.linspace(0, np.pi / 2, 400_001)[1:-1]
    log = 2 * right * np.log(np.sin(angles)) + 2 * (count - right) * np.log(np.cos(angles))
    mass = np.cumsum(np.exp(log - log.max()))
    return float(np.sin(angles[np.searchsorted(mass, share * mass[-1])]) ** 2)


@pytest.mark.parametrize(("right", "count"), [(1, 2), (1, 10), (4, 10), (9, 10), (20, 25), (3, 200), (117, 200)])
def test_the_interval_is_jeffreys(right: int, count: int) -> None:
    found = choice(_choices(right, count), 5)
    posterior = stats.beta(right + 0.5, count - right + 0.5)
    ends = (found["accuracy_low"], found["accuracy_high"])
    assert ends == pytest.approx(posterior.interval(0.95))
    assert ends == pytest.approx([_naive(right, count, share) for share in (0.025, 0.975)], abs=1e-4)
    assert found["accuracy"] == right / count
    assert ends[0] < right / count < ends[1]


@pytest.mark.parametrize("count", [1, 10, 100])
def test_where_none_or_all_are_right_the_interval_reaches_the_end(count: int) -> None:
    none, every = choice(_choices(0, count), 5), choice(_choices(count, count), 5)
    assert (none["accuracy"], none["accuracy_low"]) == (0, 0)
    assert (every["accuracy"], every["accuracy_high"]) == (1, 1)
    assert none["accuracy_high"] == pytest.approx(_naive(0, count, 0.975), abs=1e-4)
    assert every["accuracy_low"] == pytest.approx(1 - none["accuracy_high"])


def test_without_an_answer_there_is_no_share_and_no_interval() -> None:
    found = choice(np.zeros(0, bool), 5)
    assert found == {"accuracy": None, "accuracy_low": None, "accuracy_high": None, "chance": 0.2, "questions": 0}


def test_it_covers_what_is_true_about_as_often_as_it_says() -> None:
    # exactly, by the binomial distribution: on average over p, Jeffreys' interval covers 95 %
    ends = [choice(_choices(right, 20), 4) for right in range(21)]
    covered = []
    for p in np.linspace(0.05, 0.95, 181):
        chances = stats.binom.pmf(np.arange(21), 20, p)
        inside = np.array([end["accuracy_low"] <= p <= end["accuracy_high"] for end in ends])
        covered.append(float(chances @ inside))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
    assert ends[0]["chance"] == 0.25
