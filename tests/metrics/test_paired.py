from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from harness.metrics import compare_paired, detectable_difference, holm, latents_needed, sign_flip


def _naive_p(differences: np.ndarray) -> float:
    observed = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in
            product((-1, 1), repeat=len(differences))]  # fmt: skip
    return sum(total >= observed - 1e-12 for total in sums) / len(sums)


@pytest.mark.parametrize("seed", range(8))
def test_few_differences_are_enumerated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    differences = rng.integers(-10, 14, int(rng.integers(1, 11))) / 200
    assert sign_flip(differences) == pytest.approx(_naive_p(differences), abs=1e-12)


def test_the_exact_test_is_scipys() -> None:
    differences = np.random.default_rng(3).normal(0.4, 1, 12)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=math.inf
    )
    assert sign_flip(differences) == pytest.approx(expected.pvalue, abs=1e-12)


def test_zeros_do_not_change_p() -> None:
    differences = np.array([0.1, 0.2, -0.05, 0.3, 0.1])
    assert sign_flip(np.concatenate([differences, np.zeros(40)])) == sign_flip(differences)


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.08])
def test_drawn_flips_agree_with_the_exact_distribution(shift: float) -> None:
    # differences of one size: the number of positive ones is binomial under the null
    rng = np.random.default_rng(1)
    differences = np.where(rng.random(60) < 0.5 + shift, 0.1, -0.1)
    exact = stats.binomtest(int((differences > 0).sum()), 60).pvalue
    assert sign_flip(differences) == pytest.approx(exact, abs=0.015)


def test_drawn_flips_agree_with_scipys_on_continuous_differences() -> None:
    differences = np.random.default_rng(4).normal(0.25, 1, 80)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=19_999, rng=0
    )
    assert sign_flip(differences) == pytest.approx(expected.pvalue, abs=0.006)


def test_p_is_never_zero_and_takes_bounded_work() -> None:
    assert sign_flip(np.full(100, 0.1)) == 1 / 20_000
    assert sign_flip(np.random.default_rng(0).normal(1, 1, 6_000)) == 1 / 10_001


def test_edges_of_the_sign_flip_test() -> None:
    assert sign_flip(np.zeros(30)) == 1
    assert math.isnan(sign_flip([]))
    assert sign_flip([0.3]) == 1
    with pytest.raises(ValueError, match="finite"):
        sign_flip([0.1, np.nan])


def test_floating_point_noise_does_not_break_ties() -> None:
    noisy = np.array([0.1 + 0.2, 0.3, -0.3, 0.3, 0.3, -0.1 - 0.2, 0.3])
    assert sign_flip(noisy) == pytest.approx(stats.binomtest(5, 7).pvalue, abs=1e-12)


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_holm_rejects_what_the_step_down_rule_rejects(seed: int) -> None:
    p = np.random.default_rng(seed).beta(0.3, 3, 12)
    rejected = np.zeros(12, dtype=bool)
    for rank, index in enumerate(np.argsort(p)):
        if p[index] > 0.05 / (12 - rank):
            break
        rejected[index] = True
    adjusted = holm(p.tolist())
    assert [value is not None and value <= 0.05 for value in adjusted] == rejected.tolist()


def test_the_tests_false_positive_rate_is_five_per_cent() -> None:
    rng = np.random.default_rng(0)
    # skewed scores of two equal arms, in steps of 1/200: differences are symmetric about 0, with ties and zeros
    p_values = []
    for n in (12, 40):
        for seed in range(600):
            a, b = (np.round(rng.beta(6, 2, n) * 200) / 200 for _ in range(2))
            p_values.append(sign_flip(a - b, flips=499, seed=seed))
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.015)


ARMS = {
    "skewed": lambda rng, n: rng.beta(1, 4, n),
    "in steps": lambda rng, n: np.round(rng.beta(6, 2, n) * 200) / 200,
    "at a ceiling": lambda rng, n: np.where(rng.random(n) < 0.6, 1.0, np.round(rng.uniform(0.5, 1, n) * 200) / 200),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("n", [20, 40, 300])
@pytest.mark.parametrize("name", sorted(ARMS))
def test_equal_arms_are_told_apart_in_five_of_a_hundred_studies(name: str, n: int) -> None:
    # two arms whose scores of a latent go together, and either of which may be the higher
    rng = np.random.default_rng(1)
    p_values = []
    for seed in range(2000):
        easy = ARMS[name](rng, n)
        a, b = (np.where(rng.random(n) < 0.5, easy, ARMS[name](rng, n)) for _ in range(2))
        p_values.append(sign_flip(a - b, flips=1999, seed=seed))
    found = np.array(p_values)
    # four standard errors of 2,000 replicates
    for level in (0.01, 0.05, 0.2):
        assert (found <= level).mean() == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 2000))


@pytest.mark.slow
@pytest.mark.parametrize("n", [40, 300])
def test_arms_of_equal_means_and_unlike_spreads_are_not_told_apart_more_often(n: int) -> None:
    # not exchangeable, so the test is exact no more: one arm is skewed, the other is not
    rng = np.random.default_rng(1)
    p_values = [sign_flip(rng.beta(1, 4, n) - rng.normal(0.2, 0.05, n), flips=1999, seed=seed) for seed in range(2000)]
    assert (np.array(p_values) <= 0.05).mean() <= 0.05 + {40: 0.03, 300: 0.02}[n]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("n", [20, 40, 300])
def test_holm_keeps_the_chance_of_any_false_difference_below_five_per_cent(n: int) -> None:
    # four arms: three are equal, the fourth is higher by far, so that three of six pairs differ indeed
    rng = np.random.default_rng(1)
    wrong, right = [], []
    for seed in range(2000):
        base = rng.beta(6, 2, n) * 0.7
        arms = [base + rng.normal(0, 0.05, n) for _ in range(3)] + [base + 0.1 + rng.normal(0, 0.05, n)]
        pairs = list(combinations(range(4), 2))
        adjusted = holm([sign_flip(arms[a] - arms[b], flips=1999, seed=seed) for a, b in pairs])
        told = {pair for pair, p in zip(pairs, adjusted, strict=True) if p is not None and p <= 0.05}
        wrong.append(any(3 not in pair for pair in told))
        right.append(sum(3 in pair for pair in told) == 3)
    assert np.mean(wrong) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 2000)
    # Holm tests the three that are left at a third of 5 %, where Bonferroni's sixth gives 2.5 % at most
    assert np.mean(wrong) > 0.025
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("n", [20, 60])
def test_the_detectable_difference_is_found_in_eighty_of_a_hundred_studies(n: int) -> None:
    spread = 0.1
    size = detectable_difference(spread, n)
    assert size is not None
    rng = np.random.default_rng(5)
    found = [sign_flip(rng.normal(size, spread, n), flips=999, seed=seed) <= 0.05 for seed in range(1500)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_the_detectable_difference_is_that_of_the_noncentral_t_test() -> None:
    for n in (20, 50, 400):
        size = detectable_difference(1.0, n)
        assert size is not None
        critical = stats.t.ppf(0.975, n - 1)
        assert stats.nct.sf(critical, n - 1, size * np.sqrt(n)) == pytest.approx(0.8, abs=0.01)


def test_it_needs_two_latents() -> None:
    assert detectable_difference(0.1, 1) is None


def test_the_latents_needed_are_the_fewest_that_suffice() -> None:
    for spread in (0.01, 0.1, 0.3):
        needed = latents_needed(spread, 0.02)
        found = detectable_difference(spread, needed)
        assert found is not None
        assert found <= 0.02
        if needed > 20:
            equal = stats.t.ppf(0.95, needed - 2) + stats.t.ppf(0.9, needed - 2)
            before = detectable_difference(spread, needed - 1)
            assert before is not None
            assert max(before, equal * spread / np.sqrt(needed - 1)) > 0.02
    # (1.645 + 1.282)^2 = 8.56 for equivalence, (1.960 + 0.842)^2 = 7.85 for difference, in units of (spread / margin)^2
    assert latents_needed(0.2, 0.02) == pytest.approx(856, abs=3)
    assert latents_needed(0.0, 0.02) == 20
    with pytest.raises(ValueError, match="margin"):
        latents_needed(0.1, 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_latents_needed_settle_the_margin() -> None:
    spread, margin = 0.08, 0.02
    needed = latents_needed(spread, margin)
    rng = np.random.default_rng(0)

    def outcomes(true: float) -> list[str]:
        zeros = np.zeros(needed)
        return [compare_paired([(rng.normal(true, spread, needed), zeros)], margin)[0].outcome for _ in range(250)]

    apart, equal = outcomes(margin), outcomes(0.0)
    assert np.mean([outcome == "differ" for outcome in apart]) > 0.74
    assert np.mean([outcome == "equivalent" for outcome in apart]) < 0.1
    assert np.mean([outcome == "equivalent" for outcome in equal]) > 0.74
    assert np.mean([outcome == "differ" for outcome in equal]) < 0.1


def _arms(difference: float, spread: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    base, noise = rng.beta(6, 2, n), rng.normal(0, spread, n)
    return base + difference + noise - noise.mean(), base


def test_outcomes_in_words() -> None:
    apart, equal, unclear = compare_paired(
        [_arms(0.1, 0.1, 100), _arms(0.001, 0.03, 300), _arms(0.015, 0.1, 60)], margin=0.02
    )
    assert apart.outcome == "differ"
    assert apart.sentence("mini", "big") == "differ: mini is above big by 0.100 (p < 0.001)"
    assert equal.outcome == "equivalent"
    assert equal.sentence("mini", "big") == "equivalent within 0.02"
    assert equal.equivalence_interval is not None
    assert equal.equivalence_interval.inside(0.02)
    assert unclear.outcome == "inconclusive"
    assert unclear.needed is not None
    assert unclear.sentence("a", "b") == f"inconclusive: {unclear.needed - 60} more latents would settle it"
    assert unclear.p_adjusted is not None
    assert unclear.p is not None
    assert unclear.p_adjusted >= unclear.p


def test_the_lower_arm_is_named_as_such() -> None:
    a, b = _arms(0.1, 0.1, 100)
    assert compare_paired([(b, a)], 0.02)[0].sentence("low", "high").startswith("differ: high is above low by 0.100")


def test_what_can_be_seen_does_not_depend_on_the_observed_mean() -> None:
    near, far = compare_paired([_arms(0.0, 0.1, 50), _arms(0.4, 0.1, 50)], 0.02)
    assert near.detectable == pytest.approx(far.detectable)
    assert near.needed == far.needed


def test_arms_with_equal_scores_everywhere_are_equivalent() -> None:
    scores = np.linspace(0.5, 1, 30)
    same = compare_paired([(scores, scores)], 0.02)[0]
    assert (same.outcome, same.p, same.interval) == ("equivalent", 1.0, None)


def test_below_twenty_latents_arms_can_differ_but_not_be_equivalent() -> None:
    scores = np.linspace(0.5, 0.8, 12)
    apart, same = compare_paired([(scores + np.linspace(0.1, 0.2, 12), scores), (scores, scores)], 0.02)
    assert (apart.outcome, apart.interval) == ("differ", None)
    assert same.outcome == "inconclusive"


def test_arms_without_a_common_latent_are_inconclusive() -> None:
    empty = compare_paired([(np.empty(0), np.empty(0))], 0.02)[0]
    assert empty.sentence("a", "b") == "inconclusive: a and b share no latent"
    assert (empty.difference, empty.p, empty.detectable, empty.needed) == (None, None, None, None)


def test_unpaired_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="same latents"):
        compare_paired([([0.5, 0.6], [0.5])], 0.02)
