"""`harness report` as people use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_some_latents_have_a_report_of_their_own(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    task = write_task(latents={"ids": [1, 3, 5], "min_examples": 50})
    assert harness("run", task, "--out", "out", "--no-report").code == 0
    said = harness("report", "out", "--latents", "3, 5")
    assert (said.code, said.out.strip()) == (0, "report: out/report/latents.html")
    page = (tmp_path / "out" / "report" / "latents.html").read_text()
    assert "Without JavaScript: explanations and scores of 2 latents" in page
    assert not (tmp_path / "out" / "report" / "index.html").exists()
    assert (mistake := harness("report", "out", "--latents", "77")).code == 2
    assert "has no latent 77" in mistake.err
    assert "give the numbers of latents" in harness("report", "out", "--latents", "3;5").err
