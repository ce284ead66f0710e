"""Brier score and calibration error against scikit-learn and a naive loop."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from harness.metrics import calibration


@given(st.integers(0, 2**32), st.integers(2, 80), st.integers(1, 6))
def test_figures_are_scikit_learns(seed: int, n: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    said = np.round(rng.random(n) * 0.998 + 0.0013, digits + 2)
    truth = rng.random(n) < said
    found = calibration(truth, said)
    assert found is not None
    assert found.brier == pytest.approx(brier_score_loss(truth, said, labels=[0, 1]))
    # scikit-learn's bins hold their upper edge, ours their lower one
    inside = np.abs(said * 10 - np.round(said * 10)) > 1e-5
    if inside.all():
        shares, means = calibration_curve(truth, said, n_bins=10) if len(set(truth)) == 2 else (None, None)
        if shares is not None and means is not None:
            np.testing.assert_allclose([bin_.activating for bin_ in found.bins], shares)
            np.testing.assert_allclose([bin_.probability for bin_ in found.bins], means)
    error = 0.0
    for low in range(10):
        chosen = [k for k in range(n) if min(int(said[k] * 10 + 1e-6), 9) == low]
        if chosen:
            error += abs(sum(said[k] - truth[k] for k in chosen)) / n
    assert found.error == pytest.approx(error, abs=1e-12)
    assert sum(bin_.n for bin_ in found.bins) == n


def test_a_hand_worked_case() -> None:
    found = calibration([1, 0, 1, 1], [0.95, 0.15, 0.12, None])
    assert found is not None
    assert found.brier == pytest.approx((0.05**2 + 0.15**2 + 0.88**2) / 3)
    # two near 0.1 of which one is activating, and one near 1 that is
    assert found.error == pytest.approx((2 * abs(0.135 - 0.5) + 0.05) / 3)
    assert [(bin_.low, bin_.high, bin_.n) for bin_ in found.bins] == [(0.1, 0.2, 2), (0.9, 1.0, 1)]


def test_edges_belong_to_the_bin_above_and_one_to_the_last() -> None:
    found = calibration([1, 1, 1, 1], np.array([0.0, 0.3, 0.7, 1.0], np.float32))
    assert found is not None
    assert [bin_.low for bin_ in found.bins] == [0.0, 0.3, 0.7, 0.9]


def test_a_perfect_judge_has_no_error_and_a_hesitant_one_is_a_quarter() -> None:
    perfect, hesitant = calibration([1, 0], [1.0, 0.0]), calibration([1, 0], [0.5, 0.5])
    assert perfect is not None
    assert hesitant is not None
    assert (perfect.brier, perfect.error) == (0, 0)
    assert (hesitant.brier, hesitant.error) == (0.25, 0)


def test_a_sure_judge_that_is_often_wrong_is_badly_calibrated() -> None:
    truth = np.tile([1, 0], 500)
    found = calibration(truth, np.full(1000, 0.9))
    assert found is not None
    assert found.error == pytest.approx(0.4)


def test_without_probabilities_there_is_none() -> None:
    assert calibration([1, 0], None) is None
    assert calibration([1, 0], [None, np.nan]) is None
    assert calibration([], []) is None


def test_figures_can_be_written_as_json() -> None:
    found = calibration([1, 0, 1], [0.9, 0.2, 0.25])
    assert found is not None
    told = json.loads(json.dumps(found.as_dict()))
    assert told["calibration"] == [[0.2, 2, 0.225, 0.5], [0.9, 1, 0.9, 1.0]]


def test_impossible_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        calibration([1, 0], [1.2, 0.1])
    with pytest.raises(ValueError, match="match"):
        calibration([1, 0], [0.2])
