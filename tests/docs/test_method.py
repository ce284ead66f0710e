"""The page on the method: its formulas, as it writes them out, give what the package computes, and what others do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from harness import metrics, registry
from harness.metrics.simulation import pearson
from harness.questions.simulating import expectation
from harness.questions.strength import levels
from tests.docs.pages import page, titled

PAGE = page("method")
SEEDS = range(20)


@pytest.fixture(scope="module")
def hand() -> dict[str, Callable[..., Any]]:
    """The page's functions."""
    names: dict[str, Any] = {}
    exec(titled("method", "by hand"), names)
    return names


def answers(seed: int) -> tuple[list[int], list[int], list[float]]:
    """Truth, labels and probabilities of 40 examples, probabilities in steps so that some are equal."""
    draw = np.random.default_rng(seed)
    truth = np.repeat([1, 0], 20)
    probabilities = np.round(np.clip(0.3 + 0.3 * truth + draw.normal(0, 0.25, 40), 0.01, 0.99), 1)
    return truth.tolist(), (probabilities >= 0.5).astype(int).tolist(), probabilities.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_figures_of_labels_and_values(hand: dict[str, Callable[..., Any]], seed: int) -> None:
    truth, labels, probabilities = answers(seed)
    ours = metrics.classification(truth, labels, probabilities)
    assert hand["balanced_accuracy"](truth, labels) == pytest.approx(ours.balanced_accuracy)
    assert hand["balanced_accuracy"](truth, labels) == pytest.approx(balanced_accuracy_score(truth, labels))
    assert hand["auroc"](truth, probabilities) == pytest.approx(ours.auroc)
    assert hand["auroc"](truth, probabilities) == pytest.approx(roc_auc_score(truth, probabilities))
    calibrated = metrics.calibration(truth, probabilities)
    assert calibrated is not None
    told = calibrated.as_dict()
    assert hand["brier"](truth, probabilities) == pytest.approx(told["brier"])
    assert hand["calibration_error"](truth, probabilities) == pytest.approx(told["calibration_error"])


@pytest.mark.parametrize("seed", SEEDS)
def test_precision_and_f1_at_a_base_rate(hand: dict[str, Callable[..., Any]], seed: int) -> None:
    truth, labels, _ = answers(seed)
    precision, f1 = hand["at_base_rate"](truth, labels, 0.2)
    weights = [0.2 / 20 if right else 0.8 / 20 for right in truth]
    positive = sum(w for w, label in zip(weights, labels, strict=True) if label)
    assert precision == pytest.approx(
        sum(w for w, label, right in zip(weights, labels, truth, strict=True) if label and right) / positive
    )
    found = metrics.at_base_rate(truth, labels, base_rate=0.2)
    assert found.precision is not None
    assert found.f1 is not None
    for ours, theirs in ((found.precision, precision), (found.f1, f1)):
        assert ours.value is None or ours.value == pytest.approx(theirs)
        assert ours.low < theirs < ours.high


def test_the_example_at_a_base_rate_of_one_in_a_thousand(hand: dict[str, Callable[..., Any]]) -> None:
    truth, labels = [1] * 10 + [0] * 10, [1] * 8 + [0] * 2 + [1] + [0] * 9
    assert hand["balanced_accuracy"](truth, labels) == pytest.approx(0.85)
    assert round(100 * hand["at_base_rate"](truth, labels, 0.001)[0], 1) == 0.8


@pytest.mark.parametrize("seed", SEEDS)
def test_correlations_strengths_and_expectations(hand: dict[str, Callable[..., Any]], seed: int) -> None:
    draw = np.random.default_rng(seed)
    first, second = draw.normal(size=30), draw.normal(size=30)
    assert hand["pearson"](first.tolist(), second.tolist()) == pytest.approx(pearson(first, second))
    assert hand["pearson"](first.tolist(), second.tolist()) == pytest.approx(stats.pearsonr(first, second).statistic)
    activations = draw.lognormal(size=30).astype(np.float32)
    largest = float(activations.max())
    assert [hand["level"](float(one), largest) for one in activations] == levels(activations, largest).tolist()
    logprobs = dict(enumerate(np.log(draw.dirichlet(np.ones(11)) * 0.7).tolist()))
    masses = {number: float(np.exp(one)) for number, one in logprobs.items()}
    assert hand["expected_strength"](logprobs) == pytest.approx(expectation(masses))


@pytest.mark.parametrize("seed", SEEDS[:5])
def test_the_sign_flip_test_and_holms_correction(hand: dict[str, Callable[..., Any]], seed: int) -> None:
    differences = np.round(np.random.default_rng(seed).normal(0.1, 0.2, 10), 2)
    ours = hand["sign_flip"](differences.tolist())
    assert ours == pytest.approx(metrics.sign_flip(differences))
    reference = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert ours == pytest.approx(reference.pvalue)
    p_values = np.random.default_rng(seed).uniform(0, 0.1, 6).tolist()
    assert hand["holm"](p_values) == pytest.approx(metrics.holm(p_values))


def test_every_scorer_has_its_verdict() -> None:
    rows = re.findall(r"^\| ([a-z, ]+) \| ", PAGE.partition("## From explanation")[2], re.MULTILINE)
    assert {name for row in rows for name in row.split(", ")} - {"scorer"} == set(registry.BUILT_IN["scorers"])
