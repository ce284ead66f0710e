"""What judges that know nothing score, against scikit-learn and against judges that toss coins."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from harness.metrics import METRICS, best_trivial, classification, trivial


@pytest.mark.parametrize(("answer", "label"), [("always", 1), ("never", 0)])
@pytest.mark.parametrize(("activating", "silent"), [(100, 100), (4, 10), (1, 30)])
def test_constant_answers_are_those_of_a_judge_that_gives_them(
    answer: str, label: int, activating: int, silent: int
) -> None:
    truth, labels = np.repeat([1, 0], [activating, silent]), np.full(activating + silent, label)
    expected = classification(truth, labels, labels).as_dict()
    found = trivial(activating, silent)[answer]
    assert {name: found[name] for name in METRICS} == pytest.approx({name: expected[name] for name in METRICS})
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, labels))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(truth, labels.astype(float)))


def test_never_is_right_on_ten_of_fourteen() -> None:
    never = trivial(4, 10)["never"]
    assert never["accuracy"] == pytest.approx(0.714, abs=0.001)
    assert (never["balanced_accuracy"], never["recall"], never["f1"], never["precision"]) == (0.5, 0, 0, None)


def test_the_prior_is_a_coin_tossed_by_the_share_of_activating_examples() -> None:
    truth = np.repeat([1, 0], [60_000, 140_000])
    labels = (np.random.default_rng(0).random(200_000) < 0.3).astype(float)
    expected = classification(truth, labels).as_dict()
    found = trivial(30, 70)["prior"]
    for name in ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "iou", "mcc"):
        assert found[name] == pytest.approx(expected[name], abs=0.01), name
    assert (found["auroc"], found["average_precision"]) == pytest.approx((0.5, 0.3))
    assert found["brier"] == pytest.approx(0.3 * 0.7)


def test_shares_do_as_well_as_counts() -> None:
    assert trivial(0.01, 0.99)["always"] == pytest.approx(trivial(1, 99)["always"])


def test_the_best_of_them_is_told() -> None:
    assert best_trivial(trivial(4, 10), "accuracy") == pytest.approx(10 / 14)
    assert best_trivial(trivial(100, 100), "f1") == pytest.approx(2 / 3)
    assert best_trivial(trivial(100, 100), "pearson") is None


@pytest.mark.parametrize("sizes", [(0, 0), (-1, 5)])
def test_no_examples_and_negative_numbers_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="examples"):
        trivial(*sizes)
