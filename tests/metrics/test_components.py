"""Variance components: against projections worked out matrix by matrix, and against what was planted."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest

from harness.metrics.components import Crossed, combined
from harness.metrics.intervals import Interval

LATENTS: frozenset[int] = frozenset()
FIRST, SECOND, BOTH = frozenset([0]), frozenset([1]), frozenset([0, 1])


def _by_projections(values: np.ndarray) -> dict[frozenset[int], float]:
    """Components of a crossed layout by sums of squares of projections, and their expectations from traces.

    Effects are named by their axes, latents' being 0. Nothing of a balanced layout's closed forms is used.
    """
    axes = range(values.ndim)
    effects = list(chain.from_iterable(combinations(axes, size) for size in range(1, values.ndim + 1)))
    cells = np.indices(values.shape).reshape(values.ndim, -1).T
    design = {}
    for effect in effects:
        names, where = np.unique(cells[:, list(effect)], axis=0, return_inverse=True)
        design[effect] = np.eye(len(names))[where.reshape(-1)]
    y = values.reshape(-1)
    basis = np.ones((len(y), 1)) / np.sqrt(len(y))
    squares, expected = [], []
    for effect in effects:
        left = design[effect] - basis @ (basis.T @ design[effect])
        u, s, _ = np.linalg.svd(left, full_matrices=False)
        own = u[:, s > 1e-9]
        squares.append(float(np.square(own.T @ y).sum()) / own.shape[1])
        expected.append([np.square(own.T @ design[other]).sum() / own.shape[1] for other in effects])
        basis = np.hstack([basis, own])
    solved = np.linalg.solve(np.array(expected), np.array(squares))
    return {frozenset(effect): value for effect, value in zip(effects, solved, strict=True)}


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (4, 2, 3, 2)])
def test_components_are_those_of_projections(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(len(shape)).normal(size=shape)
    found, expected = Crossed(values), _by_projections(values)
    for effect, value in found.own.items():
        assert value == pytest.approx(expected[frozenset([0, *(axis + 1 for axis in effect)])], abs=1e-12)
    for effect, value in found.common.items():
        assert value == pytest.approx(expected[frozenset(axis + 1 for axis in effect)], abs=1e-12)
    assert len(found.own) + len(found.common) == len(expected)


def test_two_by_two_by_hand() -> None:
    # rows 1, 5 and 3, 3: latents' means 3 and 3, columns' 2 and 4; interaction contrasts are 1
    found = Crossed([[1.0, 5.0], [3.0, 3.0]])
    # mean squares: latents 0, columns 4, interaction 4; so latents are (0 - 4) / 2, columns (4 - 4) / 2
    assert found.own == {LATENTS: -2.0, FIRST: 4.0}
    assert found.common == {FIRST: 0.0}


def _planted(generator: np.random.Generator, n: int, sds: dict[str, float], *, skewed: bool = False) -> np.ndarray:
    shapes = {
        "l": (n, 1, 1),
        "d": (1, 4, 1),
        "ld": (n, 4, 1),
        "lds": (n, 4, 4),
    }
    drawn = {
        name: (generator.exponential(size=shape) - 1 if skewed else generator.normal(size=shape)) * sds[name]
        for name, shape in shapes.items()
    }
    return sum(drawn.values(), np.zeros((n, 4, 4)))


PLANTED = {"l": 0.12, "d": 0.02, "ld": 0.05, "lds": 0.04}


@pytest.mark.slow
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("n", [20, 60])
def test_planted_components_are_recovered_and_covered(n: int, skewed: bool) -> None:
    generator, times = np.random.default_rng(n), 250
    values: list[list[float]] = []
    covered: dict[str, int] = dict.fromkeys(("l", "ld", "lds", "d", "mean"), 0)
    for _ in range(times):
        found = Crossed(_planted(generator, n, PLANTED, skewed=skewed))
        values.append([found.own[LATENTS], found.own[FIRST], found.own[BOTH], found.common[FIRST]])
        parts = {"l": LATENTS, "ld": FIRST, "lds": BOTH}
        told: dict[str, Any] = {name: found.own_sum({effect: 1.0}) for name, effect in parts.items()}
        told["d"] = found.common_sum({FIRST: 1.0})
        told["mean"] = combined([found.own_sum({FIRST: 1 / n}), told["d"]])
        true = {name: sd**2 for name, sd in PLANTED.items()} | {"mean": 0.02**2 + 0.05**2 / n}
        for name, (_, interval) in told.items():
            covered[name] += interval is not None and true[name] in interval
    mean, error = np.mean(values, axis=0), np.std(values, axis=0) / np.sqrt(times)
    planted = np.array([0.12, 0.05, 0.04, 0.02]) ** 2
    assert (np.abs(mean - planted) < 4 * error).all()
    for name in ("lds", "ld", "mean"):
        assert covered[name] >= 0.87 * times, covered
    # the variance of 20 values of an exponential is the hardest of all
    assert covered["l"] >= (0.8 if skewed else 0.9) * times, covered
    # the mean square of 4 levels is a chi-square variable only where they are normal
    assert covered["d"] >= (0.8 if skewed else 0.92) * times, covered


def test_what_is_no_more_than_noise_comes_out_below_zero_half_of_the_time() -> None:
    generator = np.random.default_rng(0)
    below = [Crossed(generator.normal(size=(30, 4, 4))).own[FIRST] < 0 for _ in range(60)]
    assert 15 < sum(below) < 45


def test_a_factor_of_one_level_is_left_out() -> None:
    values = np.random.default_rng(0).normal(size=(6, 1, 3))
    found = Crossed(values)
    assert (found.axes, set(found.common), set(found.own)) == ((1,), {SECOND}, {LATENTS, SECOND})
    assert found.own[LATENTS] == pytest.approx(Crossed(values[:, 0]).own[LATENTS])


def test_what_never_varies_is_zero_without_an_interval() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=(30, 4, 1)), 4, axis=2)
    found = Crossed(values)
    assert found.own_sum({SECOND: 1.0}) == (0.0, None)
    assert found.common_sum({SECOND: 1.0}) == (0.0, None)
    value, interval = combined([found.own_sum({SECOND: 1.0}), found.own_sum({FIRST: 1.0})])
    assert value == found.own[FIRST]
    assert interval is not None


def test_intervals_need_twenty_latents_and_four_levels() -> None:
    generator = np.random.default_rng(0)
    assert Crossed(generator.normal(size=(19, 4))).own_sum({LATENTS: 1.0})[1] is None
    assert Crossed(generator.normal(size=(20, 4))).own_sum({LATENTS: 1.0})[1] is not None
    assert Crossed(generator.normal(size=(20, 3))).common_sum({FIRST: 1.0})[1] is None
    assert Crossed(generator.normal(size=(20, 4))).common_sum({FIRST: 1.0})[1] is not None


def test_a_sum_without_all_of_its_intervals_has_none() -> None:
    inside = Interval(0.5, 2.0)
    assert combined([(1.0, inside), (0.5, None)]) == (1.5, None)
    assert combined([(1.0, inside), (0.0, None)]) == (1.0, inside)
    assert combined([(1.0, inside), (3.0, Interval(1.0, 5.0))])[1] == Interval(4 - np.sqrt(4.25), 4 + np.sqrt(5))


def test_missing_scores_and_single_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="none missing"):
        Crossed([[1.0, np.nan], [1.0, 2.0]])
    with pytest.raises(ValueError, match="at least 2"):
        Crossed([[1.0, 2.0]])
