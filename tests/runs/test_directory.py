from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import RunError
from harness.runs.directory import changes, held

HOLD = """
import sys
from pathlib import Path
from harness.runs.directory import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_directory_in_use_names_the_process_that_holds_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        told = rf"run: in use by process {other.pid}; wait for it, or give another --out$"
        with pytest.raises(RunError, match=told), held(tmp_path / "run"):
            pytest.fail("held twice")
        other.communicate("")
    with held(tmp_path / "run"):
        assert (tmp_path / "run" / "owner").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / "run" / "owner").exists()


def test_a_holder_that_has_not_written_its_number_yet_is_unknown(tmp_path: Path) -> None:
    with held(tmp_path):
        (tmp_path / "owner").write_text("")
        with pytest.raises(RunError, match="in use by process unknown"), held(tmp_path):
            pytest.fail("held twice")


def test_a_file_where_the_directory_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunError, match="run: the run directory cannot be made: File exists"), held(tmp_path / "run"):
        pytest.fail("held a file")


def test_a_lock_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(RunError, match="the run directory cannot be written"), held(tmp_path):
        pytest.fail("held without a lock")


def test_changes_name_every_key_that_differs() -> None:
    old = {"seed": 0, "latents": {"sample": 3}, "scorer": [{"name": "d", "batch": 5}], "primary": None}
    new = {"seed": 0, "latents": {"ids": [1]}, "scorer": [{"name": "d", "batch": 6}], "primary": {"scorer": "d"}}
    assert changes(old, new) == [
        "latents.ids: None -> [1]",
        "latents.sample: 3 -> None",
        "primary: None -> {'scorer': 'd'}",
        "scorer.0.batch: 5 -> 6",
    ]
    assert changes(old, old) == []
