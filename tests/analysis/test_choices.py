"""What choosing makes of chance, against a loop over the journal's units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis.choices import choices
from harness.analysis.load import load
from harness.runs.running import conduct
from harness.task import load_task

pytestmark = pytest.mark.anyio

A = {"name": "a", "kind": "contexts", "model": "lexical/rules"}
JUDGE = {"name": "noisy", "kind": "detection", "model": "lexical/rules", "batch": 10}


async def test_a_row_tells_how_the_chosen_did_where_it_was_chosen_and_where_it_is_scored(
    write_task: Callable[..., Path], tmp_path: Path
) -> None:
    few = {**A, "name": "few", "kind": "contrastive", "count": 1}
    best = {"name": "best", "kind": "best-of", "candidates": ["few", "a"], "scorer": "noisy"}
    same = {"name": "same", "kind": "best-of", "candidates": ["a"], "samples": 2, "scorer": "noisy"}
    task = write_task(explainer=[A, few, best, same], scorer=[JUDGE], latents={"sample": 6, "min_examples": 50})
    await conduct(load_task(task), tmp_path / "run")
    run = load(tmp_path / "run")
    scored = {
        (row.arm.explainer, row.latent): row.unit.result["metrics"]["balanced_accuracy"]
        for row in run.score_rows()
        if row.unit is not None and row.arm.control is None
    }
    expected = {}
    for arm, latent, unit in run.explanation_units():
        if arm.explainer in ("best", "same") and arm.control is None:
            assert unit is not None
            notes = unit.result["notes"]
            chosen = notes["candidates"][notes["chosen"]]
            assert chosen["text"] == unit.result["text"]
            told = (chosen["select"], scored[arm.explainer, latent], notes["chosen"] == 0)
            expected.setdefault(arm.explainer, []).append(told)
    found = choices(run)
    assert found["explainer"].tolist() == ["best", "same"]
    for row in found.to_dict("records"):
        own = expected[row["explainer"]]
        assert row["latents"] == len(own) == 6
        for column, values in zip(("select", "scored", "first"), zip(*own, strict=True), strict=True):
            assert row[column] == pytest.approx(sum(values) / 6)
        assert row["optimism"] == pytest.approx(sum(one - other for one, other, _ in own) / 6)
        # too few latents for an interval
        assert row["low"] is None
    assert found["equal"].tolist()[1] == found["first"].tolist()[1] == 1.0
    assert choices(run, metric="f1").empty
