"""Halves of a latent's examples, and the agreement of the figures that they give."""

from __future__ import annotations

import numpy as np
import pytest

from harness.metrics import halves, spearman_brown, split_half

TRUTH = np.repeat([1, 0], [25, 20])
QUANTILES = np.concatenate([np.arange(25) % 10 + 1, np.zeros(20, int)])


def test_halves_are_balanced_by_truth_and_quantile() -> None:
    first = halves(TRUTH, QUANTILES, splits=200, seed=1)
    assert first.shape == (200, 45)
    for truth, quantile in {*zip(TRUTH.tolist(), QUANTILES.tolist(), strict=True)}:
        stratum = (truth == TRUTH) & (quantile == QUANTILES)
        counts = first[:, stratum].sum(axis=1)
        size = int(stratum.sum())
        assert set(counts.tolist()) == {size // 2, -(-size // 2)}
        # an odd one goes to either half, and every example to both
        assert counts.mean() == pytest.approx(size / 2, abs=0.15)
    assert np.abs(first.mean(axis=0) - 0.5).max() < 0.15


def test_one_example_a_quantile_is_dealt_evenly_and_at_random() -> None:
    first = halves([1] * 10 + [0] * 10, [*range(1, 11), *[0] * 10], splits=500, seed=0)
    assert (first[:, :10].sum(axis=1) == 5).all()
    assert (first[:, 10:].sum(axis=1) == 5).all()
    assert len({row[:10].tobytes() for row in first}) > 200  # of 252


def test_halves_do_not_go_together_within_a_stratum() -> None:
    first = halves([1] * 4, [0] * 4, splits=3000, seed=0)
    pairs = {tuple(np.flatnonzero(row)) for row in first}
    assert len(pairs) == 6  # all halves of four
    both = (first[:, 0] & first[:, 1]).mean()
    assert both == pytest.approx(1 / 6, abs=0.03)


def test_the_same_seed_gives_the_same_halves() -> None:
    one, same, other = (halves(TRUTH, QUANTILES, seed=seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_no_examples_have_empty_halves() -> None:
    assert halves([], [], splits=5).shape == (5, 0)


def test_spearman_brown_on_known_values() -> None:
    assert [spearman_brown(r) for r in (0.0, 0.5, 1.0)] == pytest.approx([0, 2 / 3, 1])
    assert spearman_brown(-1.0) == -np.inf


def _study(rng: np.random.Generator, n: int, arms: int = 1, spread: float = 0.1, splits: int = 20, seed: int = 0):
    """Accuracies of halves: each latent and arm has a chance of its own that a verdict is right."""
    truth = np.repeat([1, 0], 20)
    quantiles = np.concatenate([np.arange(20) % 10 + 1, np.zeros(20, int)])
    chance = 0.75 + rng.normal(0, spread, (n, 1)) + (arms > 1) * rng.normal(0, spread / 2, (n, arms))
    right = (rng.random((n * arms, 40)) < np.clip(chance, 0.02, 0.98).reshape(-1, 1)).astype(float)
    first = halves(truth, quantiles, splits=splits, seed=seed).astype(float)
    return first @ right.T / 20, (1 - first) @ right.T / 20, np.repeat(np.arange(n), arms)


def test_the_value_is_a_naive_loops() -> None:
    a, b, _ = _study(np.random.default_rng(0), 30)
    mean = np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])
    found = split_half(a, b)
    assert found.value == pytest.approx(2 * mean / (1 + mean), abs=1e-9)
    assert (found.n, found.latents) == (30, 30)


def test_the_interval_is_a_naive_jackknifes_over_latents() -> None:
    from scipy import stats

    a, b, latents = _study(np.random.default_rng(0), 22, arms=3)

    def z(kept: np.ndarray) -> float:
        return float(
            np.arctanh(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a[:, kept], b[:, kept], strict=True)]))
        )

    whole = z(np.ones(66, bool))
    each = np.array([z(latents != out) for out in range(22)])
    centre = whole - 21 * (each.mean() - whole)
    reach = stats.t.ppf(0.975, 21) * np.sqrt(21 / 22 * np.square(each - each.mean()).sum())
    low, high = np.tanh([centre - reach, centre + reach])
    got = split_half(a, b, latents).interval
    assert got is not None
    np.testing.assert_allclose((got.low, got.high), (2 * low / (1 + low), 2 * high / (1 + high)), atol=1e-8)


def test_a_reliable_scorer_is_near_one_and_noise_near_zero() -> None:
    rng = np.random.default_rng(0)
    known = split_half(*_study(rng, 200, spread=0.2))
    noise = split_half(*_study(rng, 200, spread=0.0))
    assert known.value is not None
    assert noise.value is not None
    assert known.value > 0.85
    assert noise.interval is not None
    assert 0.0 in noise.interval


def test_it_foretells_the_correlation_of_two_whole_scorings() -> None:
    rng = np.random.default_rng(0)
    chance = np.clip(0.75 + rng.normal(0, 0.1, (5000, 1)), 0.02, 0.98)
    right, again = ((rng.random((5000, 40)) < chance).astype(float) for _ in range(2))
    first = halves(np.repeat([1, 0], 20), np.zeros(40), splits=20).astype(float)
    found = split_half(first @ right.T / 20, (1 - first) @ right.T / 20)
    assert found.value == pytest.approx(np.corrcoef(right.mean(axis=1), again.mean(axis=1))[0, 1], abs=0.02)


def test_rows_without_a_figure_in_any_split_are_left_out() -> None:
    a, b, _ = _study(np.random.default_rng(0), 30)
    a[3, 7] = np.nan
    kept = np.arange(30) != 7
    assert split_half(a, b) == split_half(a[:, kept], b[:, kept])
    assert split_half(a, b).n == 29


def test_what_is_not_defined_is_none() -> None:
    nothing = np.full((5, 30), np.nan)
    for halved in (np.ones((5, 30)), nothing, np.empty((5, 0))):
        found = split_half(halved, halved)
        assert (found.value, found.interval) == (None, None)
    few = split_half(*_study(np.random.default_rng(0), 19))
    assert few.value is not None
    assert few.interval is None
    with pytest.raises(ValueError, match="same rows"):
        split_half(np.ones((5, 3)), np.ones((5, 4)))
    with pytest.raises(ValueError, match="finite"):
        split_half(np.full((5, 3), np.inf), np.ones((5, 3)))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("n", [20, 40, 300])
@pytest.mark.parametrize(("spread", "arms"), [(0.05, 1), (0.15, 1), (0.1, 3)])
def test_intervals_cover_as_often_as_they_say(n: int, spread: float, arms: int) -> None:
    a, b, _ = _study(np.random.default_rng(0), 100_000, arms, spread)
    mean = np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])
    true = 2 * mean / (1 + mean)
    rng = np.random.default_rng(1)
    found = [split_half(*_study(rng, n, arms, spread, seed=seed)).interval for seed in range(2000)]
    covers = np.mean([interval is not None and true in interval for interval in found])
    assert 0.93 <= covers <= 0.97
