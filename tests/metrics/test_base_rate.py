from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from harness.metrics import at_base_rate


def _judged(hit: int, alarm: int, n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    truth, labels = np.repeat([1, 0], n), np.zeros(2 * n)
    labels[:hit], labels[n : n + alarm] = 1, 1
    return truth, labels


def test_precision_at_a_low_base_rate_is_bayes_theorem() -> None:
    # balanced accuracy 0.85 at a base rate of 0.1 %
    figures = at_base_rate(*_judged(80, 10), base_rate=0.001)
    assert figures.precision is not None
    assert figures.precision.value == pytest.approx(0.001 * 0.8 / (0.001 * 0.8 + 0.999 * 0.1))
    assert figures.precision.value == pytest.approx(0.008, abs=1e-4)
    assert figures.f1 is not None
    precision, recall = figures.precision.value, 0.8
    assert figures.f1.value == pytest.approx(2 * precision * recall / (precision + recall))
    assert figures.average_precision is None


def test_figures_equal_those_of_a_corpus_with_as_many_silent_windows() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([1, 0], 400)
    probabilities = np.clip(np.round(rng.normal(0.3 + 0.5 * truth, 0.15), 2), 0, 1)
    labels = (probabilities > 0.5).astype(float)
    figures = at_base_rate(truth, labels, probabilities, base_rate=1 / 10)
    silent = truth == 0
    corpus = np.concatenate([np.flatnonzero(~silent), np.repeat(np.flatnonzero(silent), 9)])
    assert figures.average_precision is not None
    assert figures.average_precision.value == pytest.approx(
        sk.average_precision_score(truth[corpus], probabilities[corpus])
    )
    assert figures.precision is not None
    assert figures.precision.value == pytest.approx(sk.precision_score(truth[corpus], labels[corpus]))
    assert figures.f1 is not None
    assert figures.f1.value == pytest.approx(sk.f1_score(truth[corpus], labels[corpus]))


def test_at_a_base_rate_of_one_half_nothing_changes() -> None:
    figures = at_base_rate(*_judged(80, 20), base_rate=0.5)
    assert figures.precision is not None
    assert figures.precision.value == pytest.approx(0.8)


def test_no_false_positive_among_few_silent_windows_resolves_nothing_at_a_low_base_rate() -> None:
    figures = at_base_rate(*_judged(100, 0), np.repeat([0.9, 0.1], 100), base_rate=0.01)
    for estimate in (figures.precision, figures.f1, figures.average_precision):
        assert estimate is not None
        assert estimate.value is None
        assert estimate.low < 0.5 < 0.9 < estimate.high


def test_more_silent_windows_resolve_it() -> None:
    truth, labels = np.repeat([1, 0], [100, 20_000]), np.repeat([1, 0], [100, 20_000])
    figures = at_base_rate(truth, labels, base_rate=0.01)
    assert figures.precision is not None
    assert figures.precision.value == 1


@pytest.mark.parametrize("base_rate", [0.3, 0.03, 0.003])
def test_intervals_cover_the_judges_true_precision(base_rate: float) -> None:
    rng = np.random.default_rng(0)
    truth, hit, alarm = np.repeat([1, 0], 100), 0.8, 0.05
    true = base_rate * hit / (base_rate * hit + (1 - base_rate) * alarm)
    covers = []
    for seed in range(300):
        labels = (rng.random(200) < np.where(truth == 1, hit, alarm)).astype(float)
        precision = at_base_rate(truth, labels, base_rate=base_rate, draws=500, seed=seed).precision
        assert precision is not None
        covers.append(precision.low <= true <= precision.high)
    assert 0.9 <= np.mean(covers) <= 0.985


def test_a_missing_class_has_no_figures() -> None:
    figures = at_base_rate([1, 1, 0], [1, 0, None], base_rate=0.1)
    assert figures.as_dict() == {
        "base_rate": 0.1,
        "precision_at_base_rate": None,
        "f1_at_base_rate": None,
        "average_precision_at_base_rate": None,
    }


def test_a_judge_that_says_nothing_has_no_precision() -> None:
    precision = at_base_rate(*_judged(0, 0), base_rate=0.3).precision
    assert precision is not None
    assert precision.value is None


def test_figures_can_be_written_as_json() -> None:
    told = at_base_rate(*_judged(80, 10), base_rate=0.001).as_dict()
    value, low, high = json.loads(json.dumps(told))["precision_at_base_rate"]
    assert low < value < high


@pytest.mark.parametrize("base_rate", [0, 1, -0.1, float("nan")])
def test_an_impossible_base_rate_is_refused(base_rate: float) -> None:
    with pytest.raises(ValueError, match="base rate"):
        at_base_rate([1, 0], [1, 0], base_rate=base_rate)
