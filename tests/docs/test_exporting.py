"""The commands of the page on exporting work in their order and print what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.interop.exporting import FORMATS
from tests.docs.pages import blocks, page

PAGE = page("exporting")


def shown() -> list[tuple[list[str], list[str]]]:
    """The arguments of each command with the lines that the page prints after it."""
    found: list[tuple[list[str], list[str]]] = []
    for block in blocks("exporting", "console"):
        for line in block.text.splitlines():
            if line.startswith("$ harness "):
                found.append((shlex.split(line)[2:], []))
            else:
                found[-1][1].append(line)
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_command_works_and_prints_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [words[0] for words, _ in shown()] == ["run", "export", "upload", "export", "import", "validate"]
    for words, printed in shown():
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        if printed:
            assert [_roughly(line) for line in result.stdout.splitlines()] == [_roughly(line) for line in printed]


def _roughly(line: str) -> str:
    """A line without its number of windows: another machine's arithmetic may move one or two."""
    return re.sub(r"[\d,]+(?= lines of Neuronpedia's exported activations)", "some", line)


def test_every_format_has_a_row() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(FORMATS)
