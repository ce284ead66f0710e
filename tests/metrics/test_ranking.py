"""Figures of values against scikit-learn, and where they are not defined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from harness.metrics.ranking import ranking


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_figures_are_scikit_learns_with_ties_and_missing_values(seed: int, digits: int) -> None:
    draw = np.random.default_rng(seed)
    truth = draw.permutation(np.arange(40) % 2)
    values = np.round(draw.normal(truth, 1), digits - 1)
    values[draw.random(40) < 0.1] = np.nan
    quantiles = np.where(truth, draw.integers(1, 4, 40), 0)
    has = np.isfinite(values)
    found = ranking(truth, values, quantiles)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth[has], values[has]))
    assert found["average_precision"] == pytest.approx(average_precision_score(truth[has], values[has]))
    assert set(found["by_quantile"]) == {str(q) for q in np.unique(quantiles[has & (truth == 1)])}
    for quantile, area in found["by_quantile"].items():
        kept = has & ((truth == 0) | (quantiles == int(quantile)))
        assert area == pytest.approx(roc_auc_score(truth[kept], values[kept]))


def test_values_that_order_rightly_give_one_and_equal_values_one_half() -> None:
    truth, quantiles = [1, 0, 1, 0], [1, 0, 2, 0]
    assert ranking(truth, [3, 1, 2, 0], quantiles) == {
        "auroc": 1.0,
        "average_precision": 1.0,
        "by_quantile": {"1": 1.0, "2": 1.0},
    }
    assert ranking(truth, [7, 7, 7, 7], quantiles)["auroc"] == 0.5


def test_where_a_class_has_no_value_nothing_is_defined() -> None:
    nothing = {"auroc": None, "average_precision": None}
    assert ranking([1, 1], [1.0, 2.0], [1, 2]) == {**nothing, "by_quantile": {"1": None, "2": None}}
    assert ranking([1, 0], [1.0, np.nan], [1, 0]) == {**nothing, "by_quantile": {"1": None}}
    assert ranking([], [], []) == {**nothing, "by_quantile": {}}
