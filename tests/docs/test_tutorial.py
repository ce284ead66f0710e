"""The tutorial's task and commands work as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.resources import fixture
from tests.docs.pages import blocks, page, titled

PAGE = page("tutorial")
PRINTED = "│ rules            │ 0.722     │      10 │"


def commands() -> list[list[str]]:
    """The arguments of the harness' commands, in the page's order."""
    lines = [line.removeprefix("$ ") for block in blocks("tutorial", "console") for line in block.text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("harness ")]


@pytest.mark.slow
def test_every_command_works_and_the_run_scores_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "fixtures").symlink_to(fixture("subject").parent)
    (tmp_path / "mine.toml").write_text(titled("tutorial", "mine.toml"), encoding="utf-8")
    assert PRINTED in PAGE
    first = None
    assert [words[0] for words in commands()] == ["collect", "examples", "try", "plan", "run", "run", "report"]
    for words in commands():
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        if words[0] == "run" and first is None:
            first = result.output
    assert first is not None
    (score,) = re.findall(r"│ rules +│ (0\.\d+) +│ +10 │", first)
    # another machine's arithmetic may move a window or two
    assert float(score) == pytest.approx(0.722, abs=0.02)
