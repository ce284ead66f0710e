"""Every figure of a run's scores, with trivial answers and the base rate beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.analysis.load import Run, load
from harness.metrics import at_base_rate, trivial
from harness.runs.running import conduct
from harness.task import load_task
from harness.values import seed_of


@pytest.fixture
def run(write_task: Callable[..., Path], tmp_path: Path, make_store: Callable[..., Any]) -> Run:
    # two hundred words: a latent fires in one window of seven
    store = make_store(tmp_path / "rare", contexts=400, words=[f"w{number}" for number in range(200)])
    (tmp_path / "mine.jsonl").write_text('{"latent": 3, "explanation": "the word w3"}\n')
    task = write_task(
        store={"path": str(store.path)},
        latents={"ids": [3, 4], "min_examples": 50},
        examples={"scored": {"activating": 10, "non_activating": 10, "rungs": ["random", "same-token"]}},
        explainer=[
            {"name": "mine", "kind": "file", "path": "mine.jsonl"},
            {"name": "rules", "kind": "contexts", "model": "lexical/rules"},
        ],
        scorer=[
            {"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10},
            {"name": "intruder", "kind": "intruder", "model": "lexical/rules"},
        ],
        controls=["none"],
    )
    asyncio.run(conduct(load_task(task), tmp_path / "out"))
    return load(tmp_path / "out")


def _line(frame: pd.DataFrame, **where: object) -> dict:
    for name, value in where.items():
        frame = frame[frame[name].isna() if value is None else frame[name] == value]
    (row,) = frame.to_dict("records")
    return row


def test_a_row_has_the_recorded_figures_and_what_trivial_answers_get(run: Run) -> None:
    frame = run.figures("random")
    row = _line(frame, latent=3, scorer="detection", explainer="mine", control=None)
    scores = run.scores()
    told = _line(scores[scores["rung"] == "random"], latent=3, scorer="detection", explainer="mine", control=None)
    for name, value in told["metrics"].items():
        assert row[name] == value or (pd.isna(row[name]) and value is None)
    assert (row["n_pos"], row["n_neg"], row["failed"], row["status"]) == (10, 10, 0, "ok")
    assert row["trivial"] == trivial(10, 10)


def test_figures_at_the_base_rate_are_those_of_its_verdicts(run: Run) -> None:
    frame = run.figures("random")
    assert run.store().n_contexts == 400
    resolved = []
    for score in run.score_rows():
        verdicts = score.verdicts
        if score.scoring.rung != "random" or score.scoring.scorer != "detection" or verdicts is None:
            continue
        row = _line(
            frame, latent=score.latent, scorer="detection", explainer=score.arm.explainer, control=score.arm.control
        )
        assert 0.1 < row["base_rate"] < 0.2
        seed = seed_of(run.seed, "words", score.latent, "base rate")
        expected = at_base_rate(
            verdicts.truth, verdicts.labels, verdicts.scores, base_rate=row["base_rate"], draws=1000, seed=seed
        )
        for name in ("precision", "f1", "average_precision"):
            estimate, column = getattr(expected, name), f"{name}_at_base_rate"
            if estimate is None:
                assert pd.isna(row[column])
                continue
            assert (row[f"{column}_low"], row[f"{column}_high"]) == (estimate.low, estimate.high)
            assert (None if pd.isna(row[column]) else row[column]) == estimate.value
            resolved.append(estimate.value is not None)
    # ten silent windows resolve that always answering yes is worth little, and not that no false alarm was seen
    assert set(resolved) == {True, False}


def test_hard_rungs_and_choices_have_no_figure_at_a_base_rate(run: Run) -> None:
    frame = run.figures()
    assert set(frame["rung"]) == {"random", "same-token"}
    hard = _line(frame, latent=3, scorer="detection", rung="same-token", explainer="mine", control=None)
    assert pd.isna(hard["precision_at_base_rate_low"])
    assert hard["trivial"] is not None
    chosen = _line(frame, latent=3, scorer="intruder")
    assert chosen["accuracy"] is not None
    assert not isinstance(chosen["trivial"], dict)


def test_a_latent_without_an_explanation_has_its_status_and_no_figure(run: Run) -> None:
    row = _line(run.figures("random"), latent=4, scorer="detection", explainer="mine", control=None)
    assert (row["status"], row["n_pos"]) == ("unparsable", 0)
    assert pd.isna(row["balanced_accuracy"])
