"""`harness judge`: what it prints and writes, and what it says of mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_it_prints_the_figures_and_the_verdict_and_says_where_the_sheet_is(
    harness: Callable[..., Any], tmp_path: Path
) -> None:
    said = harness("judge", "truth/noisy", "--set", "false_positive=0.4", "--set", "false_negative=0.4")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].startswith("truth/noisy as a judge of 400 planted items, asked ")
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:4]] for line in lines if len(cells := line.split("│")) > 3
    }
    sheets = json.loads((tmp_path / "runs/judge-truth-noisy/judge.json").read_text())["sheets"]
    for sheet, shown in zip(sheets, rows["true: 1s where it holds (TPR)"], strict=True):
        tpr = sheet["tpr"]
        assert shown == f"{tpr['share']:.2f} [{tpr['low']:.2f}, {tpr['high']:.2f}]"
        assert 0.4 < tpr["share"] < 0.8
    assert rows["dollars for 1,000 verdicts"] == ["0", "0"]
    for scorer in ("detection", "fuzzing"):
        assert any(line.startswith(f"{scorer}: not qualified: TPR - FPR may be ") for line in lines)
    assert lines[-1] == "sheet: runs/judge-truth-noisy/judge.json"


def test_settings_come_from_a_task_and_are_overridden(harness: Callable[..., Any], tmp_path: Path) -> None:
    said = harness("judge", "truth/noisy", "--task", "planted", "--set", "false_negative=0.0", "--out", "mine")
    assert said.code == 0
    for sheet in json.loads((tmp_path / "mine/judge.json").read_text())["sheets"]:
        assert sheet["identity"]["model"][1] == {"false_positive": 0.2, "false_negative": 0.0}
        assert sheet["tpr"]["share"] == 1.0
        assert sheet["fpr"]["share"] > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["opnai/x"], 'there is no provider "opnai"; did you mean "openai"?'),
        (["gpt-5"], 'model "gpt-5": write it as provider/model; providers: '),
        (["openai/gpt-5"], "set the environment variable OPENAI_API_KEY"),
        (["lexical/x"], 'there is no model "lexical/x"'),
        (["truth/x", "--prompt", "defalt"], 'detect has no prompt "defalt"; did you mean "default"?'),
        (["truth/x", "--prompt", "fuzzing=./none.toml"], "none.toml: the prompt cannot be read"),
        (["truth/x", "--prompt", "tiny", "--prompt", "fuzzing=tiny"], "fuzzing has the prompt tiny already"),
        (["truth/x", "--set", "seed"], "--set seed: write it as key=value"),
        (["truth/x", "--set", "sed=1"], '[model."truth/x"]: sed: unknown key; did you mean seed?'),
        (["truth/x", "--task", "dmeo"], 'dmeo: no such task file; did you mean "demo"?'),
        (["truth/x", "--out", "file/judge"], "file/judge: the run directory cannot be made"),
        (["truth/x", "--out", "broken"], "no judge's sheet; move it away and ask again"),
    ],
)
def test_a_mistake_is_one_sentence(
    harness: Callable[..., Any], tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/judge.json").write_text("[]")
    said = harness("judge", *arguments)
    assert said.code == 2, said
    assert "Traceback" not in said.err
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert len(lines) == 1
    assert told in lines[0]
