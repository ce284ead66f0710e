"""Correlations against SciPy's, their intervals against a naive jackknife, and how often they cover."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from harness.metrics import CorrelationKind, correlation

# the function has the module's name
module = importlib.import_module("harness.metrics.correlation")
KINDS: tuple[CorrelationKind, ...] = ("spearman", "pearson")
SCIPY = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}


def _pair(n: int, seed: int = 0, rho: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)


@given(st.integers(0, 2**32), st.integers(3, 60), st.integers(0, 3))
def test_values_are_scipys_with_ties(seed: int, n: int, digits: int) -> None:
    x, y = (np.round(side, digits) for side in _pair(n, seed))
    x[:2], y[:2] = (0, 1), (1, 0)  # neither is constant
    for kind in KINDS:
        found = correlation(x, y, kind=kind)
        assert found.value == pytest.approx(SCIPY[kind](x, y).statistic, abs=1e-12)
        assert (found.n, found.latents) == (n, n)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arms", [1, 3])
def test_the_interval_is_a_naive_jackknifes_over_latents(kind: CorrelationKind, arms: int) -> None:
    x, y = (np.round(side, 1) for side in _pair(25 * arms, 3))
    latents = np.arange(25 * arms) // arms
    z = np.arctanh(SCIPY[kind](x, y).statistic)
    each = np.array([np.arctanh(SCIPY[kind](x[latents != out], y[latents != out]).statistic) for out in range(25)])
    error = np.sqrt(24 / 25 * np.square(each - each.mean()).sum())
    if kind == "pearson":
        error = max(error, 1 / np.sqrt(25 * arms - 3))
        centre, reach = z - 24 * (each.mean() - z), stats.t.ppf(0.975, 24) * error
    else:
        centre, reach = z, stats.norm.ppf(0.975) * max(error, 1 / np.sqrt(25 * arms - 1))
    got = correlation(x, y, latents, kind=kind).interval
    assert got is not None
    np.testing.assert_allclose((got.low, got.high), np.tanh([centre - reach, centre + reach]), atol=1e-9)


def test_rows_of_one_latent_count_as_one() -> None:
    x, y = _pair(30)
    once = correlation(x, y)
    thrice = correlation(np.repeat(x, 3), np.repeat(y, 3), np.repeat(np.arange(30), 3))
    taken_as_many = correlation(np.repeat(x, 3), np.repeat(y, 3))
    assert (thrice.n, thrice.latents) == (90, 30)
    assert thrice.value == pytest.approx(once.value)
    assert once.interval is not None
    assert thrice.interval is not None
    assert taken_as_many.interval is not None
    # but for the least error, which knows rows alone
    ends = (once.interval.low, once.interval.high)
    assert (thrice.interval.low, thrice.interval.high) == pytest.approx(ends, abs=0.05)
    assert taken_as_many.interval.high - taken_as_many.interval.low < 0.7 * (once.interval.high - once.interval.low)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_the_order_of_rows_nor_scale_matters(kind: CorrelationKind) -> None:
    x, y = _pair(60)
    latents = np.arange(60) // 2
    mixed = np.random.default_rng(1).permutation(60)
    here, there = (
        correlation(x, y, latents, kind=kind),
        correlation(3 * x[mixed] - 7, y[mixed], latents[mixed], kind=kind),
    )
    assert here.interval is not None
    assert there.interval is not None
    np.testing.assert_allclose(
        (here.value, here.interval.low, here.interval.high), (there.value, there.interval.low, there.interval.high)
    )


def test_rows_without_a_figure_are_left_out() -> None:
    x, y = _pair(40)
    holed, other = x.copy(), y.copy()
    holed[3], other[5] = np.nan, np.nan
    kept = ~np.isin(np.arange(40), (3, 5))
    assert correlation(holed, other) == correlation(x[kept], y[kept])
    assert correlation(holed, other).n == 38


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_defined_is_none(kind: CorrelationKind) -> None:
    x, _ = _pair(30)
    for first, second in ((x, np.full(30, 0.1 + 0.2)), (np.ones(30), np.ones(30)), ([0.5], [0.7])):
        found = correlation(first, second, kind=kind)
        assert (found.value, found.interval) == (None, None)
        assert found.n == len(first)
    assert correlation([], [], kind=kind) == correlation([np.nan] * 5, np.arange(5), kind=kind)
    assert correlation([], [], kind=kind).n == 0


@pytest.mark.parametrize("kind", KINDS)
def test_below_twenty_latents_and_on_a_line_there_is_a_value_without_an_interval(kind: CorrelationKind) -> None:
    x, y = _pair(19)
    assert correlation(x, y, kind=kind).value is not None
    assert correlation(x, y, kind=kind).interval is None
    # forty rows, but of ten latents
    assert correlation(*_pair(40), np.arange(40) // 4, kind=kind).interval is None
    line = np.linspace(0, 1, 40)
    assert correlation(line, 2 * line + 1, kind=kind).value == pytest.approx(1)
    assert correlation(line, 2 * line + 1, kind=kind).interval is None


def test_one_latent_that_makes_all_of_a_correlation_leaves_no_interval() -> None:
    x, y = np.ones(30), np.linspace(0, 1, 30)
    x[29] = 0.5
    for kind in KINDS:
        assert correlation(x, y, kind=kind).value is not None
        assert correlation(x, y, kind=kind).interval is None


def test_many_latents_are_left_out_some_at_a_time() -> None:
    x, y = _pair(2000)
    got = correlation(x, y).interval
    assert got is not None
    # the textbook's variance of Fisher's z for ranks (Bonett and Wright 2000)
    r = stats.spearmanr(x, y).statistic
    width = 2 * 1.96 * np.sqrt((1 + r**2 / 2) / 1997)
    assert np.arctanh(got.high) - np.arctanh(got.low) == pytest.approx(width, rel=0.12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0.1, 0.2], [0.1]), "the same rows"),
        (([0.1, 0.2], [0.1, 0.3], [1]), "the same rows"),
        (([0.1, np.inf], [0.1, 0.3]), "finite"),
    ],
)
def test_figures_of_other_rows_and_infinite_ones_are_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        correlation(*arguments)


# --- coverage ---

SHARES = np.linspace(1e-9, 1 - 1e-9, 20_001)
SKEWED, STEPS = stats.beta.ppf(SHARES, 1, 4), stats.beta.ppf(SHARES, 6, 2)
# scores as they are met, from the share of scores below
SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "skewed": lambda share: np.interp(share, SHARES, SKEWED),
    "in steps": lambda share: np.round(np.interp(share, SHARES, STEPS) * 200) / 200,
    "at a ceiling": lambda share: np.where(share > 0.4, 1.0, np.round((0.5 + share / 0.8) * 200) / 200),
}


def _study(rng: np.random.Generator, name: str, rho: float, n: int, arms: int) -> tuple[np.ndarray, ...]:
    """Two scorers' scores of `n` latents with so many arms, half of whose spread is the latent's own."""

    def correlated(count: int) -> tuple[np.ndarray, np.ndarray]:
        a = rng.normal(size=(n, count))
        return a, rho * a + np.sqrt(1 - rho**2) * rng.normal(size=(n, count))

    first, second = correlated(1)
    if arms > 1:
        own = correlated(arms)
        first, second = (first + own[0]) / np.sqrt(2), (second + own[1]) / np.sqrt(2)
    return *(SCORES[name](special.ndtr(side)).ravel() for side in (first, second)), np.repeat(np.arange(n), arms)


def _covers(kind: CorrelationKind, name: str, rho: float, n: int, arms: int) -> float:
    x, y, _ = _study(np.random.default_rng(0), name, rho, 1_000_000, 1)
    true = SCIPY[kind](x, y).statistic
    rng = np.random.default_rng(7)
    found = [correlation(*_study(rng, name, rho, n, arms), kind=kind).interval for _ in range(2000)]
    # one of a thousand studies at a ceiling has no interval: it is none that missed
    return float(np.mean([true in interval for interval in found if interval is not None]))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("n", [20, 40, 300])
@pytest.mark.parametrize("name", sorted(SCORES))
@pytest.mark.parametrize(("rho", "arms"), [(0.0, 1), (0.5, 3), (0.85, 1)])
def test_intervals_of_spearmans_cover_as_often_as_they_say(name: str, n: int, rho: float, arms: int) -> None:
    assert 0.93 <= _covers("spearman", name, rho, n, arms) <= 0.97


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("n", [20, 40])
@pytest.mark.parametrize("name", sorted(SCORES))
@pytest.mark.parametrize(("rho", "arms"), [(0.0, 1), (0.5, 3), (0.85, 1)])
def test_intervals_of_pearsons_never_cover_clearly_less_than_they_say(name: str, n: int, rho: float, arms: int) -> None:
    # up to 99 of 100 where the scores are unrelated and most are at a ceiling
    assert _covers("pearson", name, rho, n, arms) >= 0.93


@pytest.mark.parametrize("kind", ["spearman", "pearson"])
def test_rows_that_are_alike_may_be_taken_together(kind: CorrelationKind, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    latents = rng.integers(0, 150, 900)
    first = np.round(rng.beta(5, 2, 900) * 12) / 12
    second = np.round(0.6 * first * 12 + 0.4 * 12 * rng.beta(5, 2, 900)) / 12
    plain = correlation(first, second, latents, kind=kind)
    monkeypatch.setattr(module, "MANY_ROWS", 100)
    assert len(module._alike(first, second)[0]) < 170
    together = correlation(first, second, latents, kind=kind)
    assert plain.interval is not None
    assert together.interval is not None
    assert (together.n, together.latents) == (plain.n, plain.latents)
    found = (together.value, together.interval.low, together.interval.high)
    assert found == pytest.approx((plain.value, plain.interval.low, plain.interval.high), abs=1e-12)
