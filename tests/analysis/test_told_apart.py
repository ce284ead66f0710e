"""Arms that truly differ by 0.02, judged on windows as runs are: told apart, equivalent, or how many more it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analysis.differences import differences
from harness.metrics import compare_paired

MARGIN = 0.02
# windows of each class in a score
WINDOWS = 100


def _scores(generator: np.random.Generator, n: int, difference: float) -> tuple[np.ndarray, np.ndarray]:
    """Balanced accuracies of two arms on the same latents: skewed, in steps of 1/200, and each better on some."""
    level = 0.55 + 0.4 * generator.beta(4, 2, n)
    own = 0.05 * (generator.exponential(size=n) - 1)
    chances = (np.clip(level + shift, 0, 1) for shift in (difference / 2 + own / 2, -difference / 2 - own / 2))
    a, b = (generator.binomial(2 * WINDOWS, chance) / (2 * WINDOWS) for chance in chances)
    return a, b


def _outcomes(difference: float, n: int, times: int, seed: int = 0) -> dict[str, float]:
    generator = np.random.default_rng(seed)
    told = [compare_paired([_scores(generator, n, difference)], MARGIN)[0].outcome for _ in range(times)]
    return {outcome: told.count(outcome) / times for outcome in ("differ", "equivalent", "inconclusive")}


def _frame(a: np.ndarray, b: np.ndarray) -> pd.DataFrame:
    whose: dict[str, Any] = {"run": "r", "coder": "sae", "hookpoint": None, "control": None, "scorer": "detection"}
    whose |= {"scorer_model": None, "prompt": None, "rung": "random", "status": "ok", "n_pos": WINDOWS, "failed": 0}
    return pd.DataFrame(
        [
            {**whose, "latent": latent, "explainer": name, "metrics": {"balanced_accuracy": value}, "n_neg": WINDOWS}
            for name, values in (("a", a), ("b", b))
            for latent, value in enumerate(values.tolist())
        ]
    )


def test_the_table_tells_apart_holds_equal_and_says_how_many_more() -> None:
    def row(n: int, difference: float) -> dict[Any, Any]:
        return differences(_frame(*_scores(np.random.default_rng(2), n, difference)), "balanced_accuracy").to_dict(
            "records"
        )[0]

    assert (apart := row(600, MARGIN))["outcome"] == "differ"
    assert (apart["a"], apart["b"]) == ("a", "b")
    assert apart["low"] < MARGIN < apart["high"]
    assert row(600, 0.0)["outcome"] == "equivalent"
    few = row(25, MARGIN)
    assert few["outcome"] == "inconclusive"
    assert few["sentence"] == f"inconclusive: {few['needed'] - 25} more latents would settle it"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_few_latents_are_mostly_inconclusive_and_seldom_wrong() -> None:
    apart, equal = _outcomes(MARGIN, 25, 150), _outcomes(0.0, 25, 150)
    assert apart["inconclusive"] > 0.5
    assert equal["inconclusive"] > 0.5
    assert apart["equivalent"] < 0.1
    assert equal["differ"] < 0.1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_number_that_a_pilot_asks_for_settles_it() -> None:
    generator = np.random.default_rng(2)
    asked = [compare_paired([_scores(generator, 60, MARGIN)], MARGIN)[0].needed for _ in range(40)]
    apart, equal = [], []
    for seed, needed in enumerate(asked):
        assert needed is not None
        apart.append(_outcomes(MARGIN, needed, 5, seed)["differ"])
        equal.append(_outcomes(0.0, needed, 5, seed)["equivalent"])
    # 80 of 100 with the true spread; a pilot of 60 latents knows it to a tenth
    assert np.mean(apart) > 0.72
    assert np.mean(equal) > 0.72
    assert np.mean(apart) < 0.95
