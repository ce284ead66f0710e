"""The examples on the page about testing work as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness.testing.command import parser

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^python -m harness\.testing\.server (.*)$", PAGE, re.MULTILINE)


def _run(example: str, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", [each for each in EXAMPLES if "arun" not in each])
def test_an_example_works(example: str, tmp_path: Path) -> None:
    _run(example, tmp_path)


@pytest.mark.slow
def test_the_example_of_a_whole_run_works(tmp_path: Path) -> None:
    (example,) = (each for each in EXAMPLES if "arun" in each)
    _run(example, tmp_path)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 4
    assert len(COMMANDS) == 4


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command: str) -> None:
    parser().parse_args(shlex.split(command))
