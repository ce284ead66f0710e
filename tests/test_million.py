"""The benchmark of very many latents, on few."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import million


@pytest.mark.slow
def test_every_step_tells_what_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # in this process: each in one of its own takes long to start
    monkeypatch.setattr(million, "measured", million._measured)
    given = ["--latents", "60", "--examples", "40", "--explainers", "2", "--exported", "5", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["million", *given])
    million.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["benchmark"] == "million"
    for step in million.STEPS:
        assert told[f"{step}_s"] >= 0
        assert told[f"{step}_mb"] > 0
    # of some latents the explainer says nothing
    assert 0 < told["resume_found"] <= told["journal_units"] == 60 * (1 + 3) + 60 * (1 + 1)
    for step in ("store", "journal", "columns", "report", "jsonl", "neuronpedia"):
        assert told[f"{step}_bytes"] > 1000
