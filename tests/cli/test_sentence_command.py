"""`harness sentence` as people use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.running import PLANTED


def test_a_sentence_is_printed_and_written_as_a_page(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    task = write_task(**PLANTED, latents={"sample": 30, "min_examples": 40})
    assert harness("run", task, "--out", "out", "--no-report").code == 0
    said = harness("sentence", "out", "In March she walked to the river with fifty pounds.", "--html", "s.html")
    assert said.code == 0, said.err
    assert "planted " in said.out
    assert "%" in said.out
    assert said.out.splitlines()[-1] == "page: s.html"
    assert "token by token" in (tmp_path / "s.html").read_text()
    assert "no explainer" in harness("sentence", "out", "words", "--explainer", "nobody").err
