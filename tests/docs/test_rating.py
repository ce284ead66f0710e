"""The page on rating: its options are those that are asked, and its commands print what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.rating.items import OPTIONS
from tests.docs.pages import page

PAGE = page("rating")


def test_the_options_are_those_that_are_asked() -> None:
    assert re.findall(r"^\| `\d` \| (.*) \|$", PAGE, re.MULTILINE) == list(OPTIONS)


def test_the_commands_have_the_options_that_the_page_names() -> None:
    told = CliRunner().invoke(app, ["rate", "--help"], env={"COLUMNS": "200"}).output
    named = set(re.findall(r"`(?:harness rate \S+ )?(--[a-z-]+)", PAGE))
    assert named == {
        "--contexts", "--latents", "--explainer", "--no-controls", "--host", "--read", "--explanations", "--rater",
    }  # fmt: skip
    for flag in (*named, "--sheet", "--results", "--write"):
        assert flag in told


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_sheet_has_as_many_items_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["run", "demo", "--limit", "20", "--no-report"])
    assert result.exit_code == 0, result.output
    blocks = re.findall(r"^```console\n\$ (harness rate .*)\n((?:.+\n)*)```", PAGE, re.MULTILINE)
    (command, printed) = next(block for block in blocks if "--sheet" in block[0])
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.output == printed
    assert blocks[0][1].startswith(printed.split(": ")[1].rstrip() + " at http://127.0.0.1:8642/")
    result = CliRunner().invoke(app, ["rate", "runs/demo", "--results"])
    assert result.output == "Nobody has rated yet\n"
