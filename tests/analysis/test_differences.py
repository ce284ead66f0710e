from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analysis.differences import differences
from harness.errors import UserError
from harness.metrics import holm, sign_flip


def _frame(arms: dict[tuple[str | None, str | None], Any], run: str = "r", scorer: str = "detection") -> pd.DataFrame:
    rows = [
        {
            "run": run,
            "coder": "sae",
            "hookpoint": "model.layers.3",
            "latent": latent,
            "explainer": explainer,
            "control": control,
            "scorer": scorer,
            "scorer_model": "m",
            "prompt": "p",
            "rung": "random",
            "status": "refused" if score is None else "ok",
            "metrics": {"balanced_accuracy": score},
            "n_pos": 50,
            "n_neg": 50,
            "failed": 0,
        }
        for (explainer, control), scores in arms.items()
        for latent, score in enumerate(scores)
    ]
    return pd.DataFrame(rows)


def _three_arms(n: int = 60) -> dict[tuple[str | None, str | None], Any]:
    rng = np.random.default_rng(0)
    base = rng.beta(6, 3, n)
    return {
        ("good", None): base + 0.1 + rng.normal(0, 0.05, n),
        ("fair", None): base + rng.normal(0, 0.005, n),
        ("same", None): base,
        ("good", "shuffled"): np.clip(rng.normal(0.5, 0.02, n), 0, 1),
        (None, "none"): np.full(n, 0.5),
    }


def test_real_arms_are_compared_with_one_another_and_with_their_own_controls() -> None:
    table = differences(_frame(_three_arms()), "balanced_accuracy")
    pairs = {frozenset(pair) for pair in zip(table["a"], table["b"], strict=True)}
    real = [{"good", "fair"}, {"good", "same"}, {"fair", "same"}]
    withheld = [{"good", "none"}, {"fair", "none"}, {"same", "none"}]
    assert pairs == {frozenset(pair) for pair in [*real, *withheld, {"good", "good (shuffled)"}]}
    assert table["control_a"].isna().all()
    assert len(differences(_frame(_three_arms()), "balanced_accuracy", controls=False)) == 3


def test_p_values_are_the_sign_flip_tests_with_holm_over_the_pairs() -> None:
    arms = _three_arms()
    table = differences(_frame(arms), "balanced_accuracy", controls=False, seed=2)
    expected = [sign_flip(arms[a, None] - arms[b, None], seed=2) for a, b in zip(table["a"], table["b"], strict=True)]
    assert table["p"].tolist() == pytest.approx(expected, abs=1e-3)
    assert table["p_adjusted"].tolist() == holm(table["p"].tolist())


def test_outcomes_are_told_in_words() -> None:
    table = differences(_frame(_three_arms()), "balanced_accuracy", controls=False)
    told = {frozenset((row["a"], row["b"])): row["sentence"] for _, row in table.iterrows()}
    assert told[frozenset(("good", "fair"))].startswith("differ: good is above fair by 0.")
    assert told[frozenset(("fair", "same"))] == "equivalent within 0.02"


def test_differences_are_paired_and_failures_at_chance() -> None:
    good = [0.9, 0.8, None] * 10
    table = differences(_frame({("a", None): good, ("b", None): [0.6] * 30}), "balanced_accuracy")
    (row,) = table.to_dict("records")
    assert (row["a"], row["b"], row["n"]) == ("a", "b", 30)
    assert row["difference"] == pytest.approx((0.9 + 0.8 + 0.5) / 3 - 0.6)
    assert row["low"] < row["equivalence_low"] < row["difference"] < row["equivalence_high"] < row["high"]


def test_only_latents_that_both_arms_reached_are_compared() -> None:
    table = differences(_frame({("a", None): [0.9] * 30, ("b", None): [0.6] * 10}), "balanced_accuracy")
    assert table["n"].tolist() == [10]
    assert table["low"].isna().all()


def test_arms_of_several_runs_carry_their_runs_name() -> None:
    frames = [_frame({("a", None): np.linspace(0.5, 1, 30) - shift}, run) for run, shift in (("x", 0), ("y", 0.1))]
    (row,) = differences(pd.concat(frames), "balanced_accuracy").to_dict("records")
    assert (row["a"], row["b"]) == ("x: a", "y: a")
    assert row["sentence"] == "differ: x: a is above y: a by 0.100 (p < 0.001)"


def test_a_small_true_difference_is_inconclusive_and_the_latents_it_needs_are_told() -> None:
    rng = np.random.default_rng(0)
    base, noise = rng.beta(6, 3, 40), rng.normal(0, 0.1, 40)
    frame = _frame({("a", None): base + 0.01 + noise - noise.mean(), ("b", None): base})
    table = differences(frame, "balanced_accuracy")
    (row,) = table.to_dict("records")
    assert row["outcome"] == "inconclusive"
    assert row["needed"] > 100
    assert row["sentence"] == f"inconclusive: {row['needed'] - 40} more latents would settle it"


def test_one_arm_has_nothing_to_be_compared_with() -> None:
    table = differences(_frame({("a", None): [0.5] * 5}), "balanced_accuracy")
    assert len(table) == 0
    assert "sentence" in table.columns


def test_with_several_scorers_one_must_be_named() -> None:
    frame = pd.concat([_frame({("a", None): [0.5]}), _frame({("a", None): [0.5]}, scorer="fuzzing")])
    with pytest.raises(UserError, match="name one of detection, fuzzing"):
        differences(frame, "balanced_accuracy")
    assert len(differences(frame, "balanced_accuracy", "fuzzing")) == 0


def test_the_margin_must_be_above_zero() -> None:
    with pytest.raises(UserError, match="margin must be above 0"):
        differences(_frame({("a", None): [0.5]}), "balanced_accuracy", margin=0)
