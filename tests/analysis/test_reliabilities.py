"""Figures of halves against plain ones of the same examples, and the table over a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from harness.analysis.load import load
from harness.analysis.reliabilities import half_figures, reliabilities
from harness.metrics import halves
from harness.metrics.simulation import pearson
from harness.runs.running import conduct
from harness.scorers.verdicts import Verdicts
from harness.task import load_task
from harness.values import Example, FailureStatus, Passage


def _examples(count: int) -> list[Example]:
    passage, silent = Passage(("a", "b")), np.zeros(2, np.float32)
    firing = [Example(passage, np.ones(2, np.float32), quantile=1 + at % 5) for at in range(count)]
    return firing + [Example(passage, silent, rung="random") for _ in range(count)]


TRUTH = np.repeat([1, 0], 20)
RNG = np.random.default_rng(0)
CHANCES = np.clip(np.round(RNG.normal(0.35 + 0.3 * TRUTH, 0.25), 1), 0, 1)
LABELS = (CHANCES > 0.5).astype(int)


def _split(verdicts: Verdicts) -> np.ndarray:
    answered = verdicts.answered
    return halves(verdicts.truth[answered], verdicts.quantile[answered], splits=30, seed=4)


@pytest.mark.parametrize(
    ("metric", "function", "of"),
    [
        ("balanced_accuracy", balanced_accuracy_score, LABELS),
        ("auroc", roc_auc_score, CHANCES),
        ("average_precision", average_precision_score, CHANCES),
    ],
)
def test_figures_of_judged_halves_are_scikit_learns(metric: str, function: Callable, of: np.ndarray) -> None:
    failures: list[FailureStatus | None] = [None] * 40
    failures[3] = failures[25] = "refused"
    verdicts = Verdicts.of(_examples(20), LABELS.tolist(), CHANCES.tolist(), failures)
    kept = verdicts.answered
    first, second = half_figures(verdicts, metric, splits=30, seed=4)
    for chosen, one, other in zip(_split(verdicts), first, second, strict=True):
        truth, said = TRUTH[kept], of[kept]
        assert one == pytest.approx(function(truth[chosen], said[chosen]), abs=1e-6)
        assert other == pytest.approx(function(truth[~chosen], said[~chosen]), abs=1e-6)


def test_figures_of_values_need_no_label() -> None:
    values = np.random.default_rng(1).normal(TRUTH, 1).astype(np.float32)
    verdicts = Verdicts.of(_examples(20), values=values)
    first, _ = half_figures(verdicts, "auroc", splits=30, seed=4)
    expected = [roc_auc_score(TRUTH[chosen], values[chosen]) for chosen in _split(verdicts)]
    assert first.tolist() == pytest.approx(expected)


def test_figures_of_simulated_halves_are_over_all_their_tokens() -> None:
    rng = np.random.default_rng(2)
    actual = rng.integers(0, 11, (40, 6)).astype(np.float16)
    predicted = np.clip(actual + rng.normal(0, 4, (40, 6)), 0, 10).astype(np.float16)
    actual[::7, 4:] = np.nan
    verdicts = Verdicts.of(_examples(20), predicted=predicted, actual=actual)
    first, second = half_figures(verdicts, "pearson", splits=30, seed=4)
    for chosen, one, other in zip(_split(verdicts), first, second, strict=True):
        assert one == pytest.approx(pearson(predicted[chosen], actual[chosen]), abs=1e-9)
        assert other == pytest.approx(pearson(predicted[~chosen], actual[~chosen]), abs=1e-9)


def test_a_constant_simulation_and_an_unknown_figure_have_none() -> None:
    constant = Verdicts.of(_examples(20), predicted=np.full((40, 3), 2.0), actual=np.ones((40, 3)))
    for verdicts, metric in ((constant, "pearson"), (constant, "spearman"), (Verdicts.of(_examples(20)), "auroc")):
        first, second = half_figures(verdicts, metric, splits=5)
        assert np.isnan(first).all()
        assert np.isnan(second).all()


def test_a_runs_scorers_have_a_row_each(write_task: Callable[..., Path], tmp_path: Path, make_store: Callable) -> None:
    store = make_store(tmp_path / "wide", latents=30, contexts=240)
    task = write_task(
        store={"path": str(store.path)},
        coder=[{"name": "words", "kind": "planted"}],
        latents={"sample": 26, "min_examples": 20},
        explainer=[{"name": "a", "kind": "contexts", "model": "lexical/rules"}],
        scorer=[
            {"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10},
            {"name": "intruder", "kind": "intruder", "model": "lexical/rules"},
        ],
        controls=["none"],
    )
    asyncio.run(conduct(load_task(task), tmp_path / "out"))
    run = load(tmp_path / "out")
    figures = {"detection": "balanced_accuracy", "intruder": "accuracy", "absent": "f1"}
    table = reliabilities(run.score_rows(), figures, seed=3).set_index("scorer")
    scores = run.scores()
    scored = scores[scores["status"] == "ok"].groupby("scorer")["control"]
    # the control of detection is in no row, and intruder has one a latent
    assert 10 < table.loc["detection", "n"] == scored.apply(lambda control: int(control.isna().sum()))["detection"]
    assert 10 < table.loc["intruder", "n"] == scored.size()["intruder"]
    assert scored.size()["detection"] > table.loc["detection", "n"]
    assert table.loc["absent", "n"] == 0
    assert np.isnan(table.loc["absent", "reliability"])
    assert (table["reliability"].dropna() <= 1).all()
    again = reliabilities(run.score_rows(), figures, seed=3).set_index("scorer")
    assert table.equals(again)
