"""The page on judges prints what the command prints, and names the thresholds that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.judges.sheet import DISCERNMENT, FLIPS, PARSED, SEPARATION
from tests.docs.pages import page

PAGE = page("judges")
# commands with what they printed
SHOWN = re.findall(r"^```console\n\$ (harness judge .*)\n((?:.+\n)+)```", PAGE, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "printed"), [pair for pair in SHOWN if "as a judge of" in pair[1]])
def test_the_command_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, printed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    title, *rest = printed.splitlines()
    said = result.stdout.splitlines()
    assert said[0].rpartition(", asked ")[0] == title.rpartition(", asked ")[0]
    assert said[1:] == rest


def test_both_examples_and_all_thresholds_are_on_the_page() -> None:
    assert sum("as a judge of" in printed for _, printed in SHOWN) == 2
    table = PAGE.partition("## Qualified")[2]
    for words in (
        f"parse rate at least {PARSED:g} ",
        f"at least {SEPARATION:g} ",
        f"surely at least {DISCERNMENT:g} ",
        f"flips at most {FLIPS:g} ",
    ):
        assert words in table
