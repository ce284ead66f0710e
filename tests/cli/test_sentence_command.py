"""`harness sentence` as people use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.resources import fixture


def test_a_sentence_is_printed_and_written_as_a_page(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    task = write_task(
        store=None,
        subject={
            "model": str(fixture("subject")),
            "corpus": {"path": str(fixture("text", "demo.jsonl")), "tokens": 60_000},
            "context": 256,
        },
        coder=[{"name": "planted", "kind": "planted"}],
        latents={"sample": 30, "min_examples": 40},
        explainer=[{"name": "true", "kind": "file", "path": str(fixture("planted", "true.jsonl"))}],
        scorer=[{"name": "detection", "kind": "detection", "model": "truth/planted", "batch": 10}],
    )
    assert harness("run", task, "--out", "out", "--no-report").code == 0
    said = harness("sentence", "out", "In March she walked to the river with fifty pounds.", "--html", "s.html")
    assert said.code == 0, said.err
    assert "planted " in said.out
    assert "%" in said.out
    assert said.out.splitlines()[-1] == "page: s.html"
    assert "token by token" in (tmp_path / "s.html").read_text()
    assert "no explainer" in harness("sentence", "out", "words", "--explainer", "nobody").err
