from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.metrics import Votes, own_interval, permute_truth, permuted_figures
from harness.metrics.resampling import reweighted


def test_resampled_recall_is_distributed_as_jeffreys_posterior() -> None:
    truth, labels = np.repeat([1, 0], [40, 60]), np.zeros(100)
    labels[:31] = 1
    draws = reweighted("recall", Votes.of(truth, labels), 0.4, 20_000, 0)
    assert stats.kstest(draws, stats.beta(31.5, 9.5).cdf).pvalue > 0.001


def test_resampled_balanced_accuracy_mixes_both_classes_posteriors() -> None:
    truth, labels = np.repeat([1, 0], [40, 60]), np.zeros(100)
    labels[:31], labels[40:43] = 1, 1
    rng = np.random.default_rng(9)
    expected = (rng.beta(31.5, 9.5, 20_000) + rng.beta(57.5, 3.5, 20_000)) / 2
    draws = reweighted("balanced_accuracy", Votes.of(truth, labels), 0.4, 20_000, 0)
    assert stats.ks_2samp(draws, expected).pvalue > 0.001


def test_an_error_free_latent_still_has_an_interval_of_some_width() -> None:
    truth = np.repeat([1, 0], 100)
    interval = own_interval(truth, truth)
    assert interval is not None
    assert 0.97 < interval.low < 0.995
    assert 0.99 < interval.high <= 1


def test_a_missing_class_has_no_own_interval() -> None:
    assert own_interval([1, 1], [1, 0]) is None
    assert own_interval([1, 0], [1, None]) is None
    assert own_interval([1, 0], [1, 0], metric="auroc") is None


@pytest.mark.parametrize("metric", ["balanced_accuracy", "f1", "mcc", "auroc"])
@pytest.mark.parametrize("rates", [(0.8, 0.2), (0.97, 0.01), (0.5, 0.5)])
def test_own_intervals_cover_the_judges_true_figure(metric: str, rates: tuple[float, float]) -> None:
    hit, alarm = rates
    rng = np.random.default_rng(0)
    truth = np.repeat([1, 0], 100)
    tp, fn, fp, tn = hit, 1 - hit, alarm, 1 - alarm
    balanced = (tp + tn) / 2
    true = {
        "balanced_accuracy": balanced,
        "auroc": balanced,  # labels as probabilities: P(order) + P(tie) / 2
        "f1": 2 * tp / (2 * tp + fp + fn),
        "mcc": (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)),
    }[metric]
    covers = []
    for seed in range(300):
        labels = (rng.random(200) < np.where(truth == 1, hit, alarm)).astype(float)
        interval = own_interval(truth, labels, labels, metric=metric, draws=500, seed=seed)
        assert interval is not None
        covers.append(true in interval)
    assert 0.91 <= np.mean(covers) <= 0.985


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auroc", "mcc"])
def test_permuted_truth_gives_chance_whatever_the_judge_said(metric: str) -> None:
    truth = np.repeat([1, 0], 100)
    labels = (np.random.default_rng(0).random(200) < np.where(truth == 1, 0.9, 0.3)).astype(float)
    values = permuted_figures(truth, labels, labels * 0.8, metric=metric, permutations=4000)
    chance = 0.0 if metric == "mcc" else 0.5
    assert abs(values.mean() - chance) < 4 * values.std() / np.sqrt(4000)


def test_permuted_accuracy_has_the_hypergeometric_distribution() -> None:
    truth, labels = np.repeat([1, 0], [6, 4]), np.repeat([1, 0, 1], [3, 5, 2])
    hits = np.round(permuted_figures(truth, labels, metric="recall", permutations=20_000) * 6).astype(int)
    expected = stats.hypergeom(10, 6, 5).pmf(range(1, 6)) * 20_000
    assert stats.chisquare(np.bincount(hits, minlength=6)[1:], expected).pvalue > 0.001


def test_permuting_keeps_the_number_of_each_class_and_is_seeded() -> None:
    truth = np.repeat([True, False], [30, 70])
    assert permute_truth(truth, 1).sum() == 30
    assert (permute_truth(truth, 1) == permute_truth(truth, 1)).all()
    assert (permute_truth(truth, 1) != permute_truth(truth, 2)).any()


def test_values_of_any_scale_without_labels_have_the_interval_of_probabilities_in_the_same_order() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat([1, 0], 50)
    chances = rng.uniform(0.01, 0.99, 100)
    chances[[7, 70]] = np.nan
    labels = np.where(np.isnan(chances), np.nan, chances > 0.5)
    values = 3 * np.log(chances / (1 - chances)) - 10
    for metric in ("auroc", "average_precision"):
        expected = own_interval(truth, labels, chances, metric=metric)
        assert expected is not None
        assert own_interval(truth, None, values, metric=metric) == expected
    votes = Votes.of(truth, None, values)
    assert (votes.failed, votes.n_pos, votes.n_neg) == (2, 49, 49)
