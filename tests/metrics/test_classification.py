from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from harness.metrics import CHANCE, METRICS, Votes, auroc, average_precision, classification, figure


def _case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 60))
    truth = rng.random(n) < 0.5
    truth[:2] = [True, False]
    # few distinct probabilities, so that there are ties within and between the classes
    probabilities = np.clip(np.round(rng.normal(0.4 + 0.2 * truth, 0.3) * 5) / 5, 0, 1)
    return truth, (probabilities > 0.45).astype(float), probabilities


@pytest.mark.parametrize("seed", range(40))
def test_figures_equal_scikit_learn(seed: int) -> None:
    truth, labels, probabilities = _case(seed)
    got = classification(truth, labels, probabilities).as_dict()
    expected = {
        "accuracy": sk.accuracy_score(truth, labels),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, labels),
        "precision": sk.precision_score(truth, labels, zero_division=np.nan),
        "recall": sk.recall_score(truth, labels),
        "f1": sk.f1_score(truth, labels),
        "iou": sk.jaccard_score(truth, labels),
        "auroc": sk.roc_auc_score(truth, probabilities),
        "average_precision": sk.average_precision_score(truth, probabilities),
    }
    if 0 < labels.sum() < len(labels):
        expected["mcc"] = sk.matthews_corrcoef(truth, labels)
    for name, value in expected.items():
        assert (got[name] is None) == math.isnan(value), name
        if got[name] is not None:
            assert got[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("metric", sorted(METRICS))
def test_weighted_figures_equal_scikit_learn_with_sample_weights(metric: str, seed: int) -> None:
    truth, labels, probabilities = _case(seed)
    weights = np.random.default_rng(seed + 100).exponential(size=(3, len(truth)))
    got = figure(metric, Votes.of(truth, labels, probabilities), weights * truth, weights * ~truth)
    of = {
        "accuracy": (sk.accuracy_score, labels),
        "balanced_accuracy": (sk.balanced_accuracy_score, labels),
        "precision": (sk.precision_score, labels),
        "recall": (sk.recall_score, labels),
        "f1": (sk.f1_score, labels),
        "iou": (sk.jaccard_score, labels),
        "mcc": (sk.matthews_corrcoef, labels),
        "auroc": (sk.roc_auc_score, probabilities),
        "average_precision": (sk.average_precision_score, probabilities),
    }
    function, given = of[metric]
    expected = [function(truth, given, sample_weight=row) for row in weights]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_a_hand_worked_case() -> None:
    # 3 of 4 found, 1 of 4 silent ones called activating
    figures = classification([1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 1, 0, 0, 0])
    assert figures.balanced_accuracy == figures.accuracy == figures.precision == figures.recall == figures.f1 == 0.75
    assert figures.iou == 3 / 5
    assert figures.mcc == 0.5
    assert figures.auroc is None
    assert figures.average_precision is None


def test_auroc_is_the_share_of_pairs_in_order_with_ties_one_half() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random(50) < 0.4, rng.integers(0, 6, 50)
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[truth] for n in scores[~truth]]
    assert auroc(truth, scores) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_failed_verdicts_are_counted_and_in_no_figure() -> None:
    truth, labels = [1, 1, 0, 0, 1, 0], [1, 0, 0, 0, None, None]
    figures = classification(truth, labels, [0.9, 0.2, 0.1, 0.3, None, 0.99])
    alone = classification(truth[:4], labels[:4], [0.9, 0.2, 0.1, 0.3])
    assert (figures.n_pos, figures.n_neg, figures.failed) == (3, 3, 2)
    assert figures.as_dict() == alone.as_dict()


def test_examples_without_a_probability_are_left_out_of_the_ranking_figures_alone() -> None:
    figures = classification([1, 0, 1, 0], [1, 0, 0, 1], [0.9, 0.2, None, 0.1])
    assert figures.auroc == 1
    assert figures.accuracy == 0.5


@pytest.mark.parametrize(
    ("truth", "labels", "undefined"),
    [
        ([1, 1], [1, 0], {"balanced_accuracy", "auroc", "average_precision", "mcc"}),
        ([0, 0], [1, 0], {"balanced_accuracy", "recall", "auroc", "average_precision", "mcc"}),
        ([0, 0], [0, 0], set(METRICS) - {"accuracy"}),
        ([1, 0], [0, 0], {"precision", "mcc"}),
        ([1, 0], [1, 1], {"mcc"}),
        ([1, 0], [None, None], set(METRICS)),
        ([], [], set(METRICS)),
    ],
)
def test_what_is_not_defined_is_none_and_never_zero(truth: list, labels: list, undefined: set) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = classification(truth, labels, labels).as_dict()
    assert {name for name in METRICS if figures[name] is None} == undefined


def test_a_judge_that_finds_nothing_has_an_f1_of_zero_not_an_undefined_one() -> None:
    figures = classification([1, 1, 0, 0], [0, 0, 0, 0])
    assert figures.f1 == figures.iou == figures.recall == 0


def test_accuracy_by_quantile_is_over_answered_activating_examples() -> None:
    figures = classification([1, 1, 1, 1, 0, 1], [1, 0, 1, None, 1, 1], quantiles=[1, 1, 10, 10, None, 3])
    assert figures.by_quantile == {1: 0.5, 3: 1.0, 10: 1.0}
    assert json.loads(json.dumps(figures.as_dict()))["by_quantile"] == {"1": 0.5, "3": 1.0, "10": 1.0}


def test_a_quantile_of_zero_means_a_silent_window() -> None:
    assert classification([1, 0], [1, 1], quantiles=np.array([4, 0], dtype=np.int8)).by_quantile == {4: 1.0}


def test_one_label_for_all_gives_chance() -> None:
    rng = np.random.default_rng(0)
    truth, coin = np.arange(100_000) % 2, rng.integers(0, 2, 100_000)
    figures = classification(truth, coin, coin / 2).as_dict()
    for name in METRICS:
        assert figures[name] == pytest.approx(CHANCE[name], abs=0.01), name


@pytest.mark.parametrize(
    ("truth", "labels", "probabilities", "word"),
    [
        ([1, 0], [1], None, "match"),
        ([1, 0], [1, 2], None, "labels"),
        ([1, 0], [1, 0], [0.5, 1.5], "probabilities"),
        ([1, 3], [1, 0], None, "truth"),
    ],
)
def test_impossible_verdicts_are_refused(truth: list, labels: list, probabilities: list | None, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        classification(truth, labels, probabilities)


def test_constant_scores_give_one_half_and_the_share_of_positives() -> None:
    assert auroc([1, 0, 0, 0], [2.0, 2.0, 2.0, 2.0]) == 0.5
    assert average_precision([1, 0, 0, 0], [2.0, 2.0, 2.0, 2.0]) == 0.25
