"""The exact null of permuted truth, and firing rates, beside a run's means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from harness.analysis.load import Run, load
from harness.analysis.nulls import permuted_mean, quartiles


@pytest.fixture(scope="module")
def full(random_run: Path) -> Run:
    return load(random_run / "full")


@pytest.fixture(scope="module")
def table(full: Run) -> pd.DataFrame:
    return full.summary().set_index("arm")


def test_with_permuted_truth_the_mean_is_one_half(table: pd.DataFrame) -> None:
    for arm in ("a", "a (random-direction)", "a (random-coder)"):
        assert table.loc[arm, "permuted"] == pytest.approx(0.5, abs=0.005)
        assert 0.43 < table.loc[arm, "permuted_low"] < 0.49
        assert 0.51 < table.loc[arm, "permuted_high"] < 0.57
    assert table.loc["a", "mean_at_chance"] > table.loc["a", "permuted_high"]
    assert table.loc[["a (shuffled)", "none", "lexical baseline"], "permuted"].isna().all()


def test_the_null_is_that_of_a_loop_with_scikit_learn(full: Run) -> None:
    rows = [row for row in full.score_rows() if row.arm.control is None]
    found = permuted_mean(rows, "balanced_accuracy")
    assert found is not None
    rng, means = np.random.default_rng(0), []
    verdicts = [v for row in rows if (v := row.verdicts) is not None]
    for _ in range(400):
        means.append(np.mean([balanced_accuracy_score(rng.permutation(v.truth), v.label) for v in verdicts]))
    assert found[0] == pytest.approx(np.mean(means), abs=0.003)
    # each end of 400 and of 500 draws is off by some 0.003
    assert found[1:] == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.012)


def test_there_is_no_null_of_what_is_no_classifiers_figure(full: Run) -> None:
    assert permuted_mean(full.score_rows(), "pearson") is None
    assert permuted_mean([], "balanced_accuracy") is None


def test_the_same_seed_gives_the_same_null(full: Run) -> None:
    rows = list(full.score_rows())
    assert permuted_mean(rows, "mcc", 1) == permuted_mean(rows, "mcc", 1) != permuted_mean(rows, "mcc", 2)


def test_firing_rates_stand_beside_the_means_of_their_latents(full: Run, table: pd.DataFrame) -> None:
    names = ["window_rate", "window_rate_q25", "window_rate_q75"]
    for arm, control in (("a", None), ("none", None), ("a (random-coder)", "random-coder")):
        expected = np.quantile(full.window_rates(control), [0.5, 0.25, 0.75])
        assert table.loc[arm, names].astype(float).to_numpy() == pytest.approx(expected)
    assert quartiles([]) is None


def test_a_run_without_populations_has_no_rates(random_run: Path) -> None:
    plain = load(random_run / "plain")
    assert not [name for name in plain.summary().columns if "window_rate" in name]
    assert plain.window_rates() == []
