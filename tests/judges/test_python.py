"""Judging from Python: the same sheets, whether or not an event loop runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.errors import TaskError
from harness.judges.sheet import SHEET, read_sheets

pytestmark = pytest.mark.anyio

ERRS = {"false_positive": 0.1}


def test_judge_works_where_no_loop_runs_and_names_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sheets = harness.judge("truth/x", settings=ERRS, prompts=["fuzzing=tiny"], batch=10)
    assert [(sheet.scorer, sheet.prompt, sheet.calls) for sheet in sheets] == [
        ("detection", "default", 40),
        ("fuzzing", "tiny", 40),
    ]
    assert read_sheets(tmp_path / "runs" / "judge-truth-x" / SHEET) == sheets


async def test_judge_works_inside_a_running_loop_as_ajudge_does(tmp_path: Path) -> None:
    awaited = await harness.ajudge("truth/x", tmp_path / "one", settings=ERRS)
    plain = harness.judge("truth/x", tmp_path / "two", settings=ERRS)
    assert [s.model_dump(exclude={"date"}) for s in plain] == [s.model_dump(exclude={"date"}) for s in awaited]


async def test_mistakes_come_through_plain(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="did you mean false_positive"):
        await harness.ajudge("truth/x", tmp_path, settings={"false_positiv": 0.1})
