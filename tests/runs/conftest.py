"""What tests of runs share: the backend, models behind a provider's server, and what a run left."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.journal_rows import Unit
from harness.runs.outcomes import result_hash

# Starts a process for each order it reads, so that each begins with the modules loaded and dies alone.
STARTER = """
import asyncio, json, os, sys
from pathlib import Path
import anthropic, openai
import harness.clients.providers.openai_api, harness.explainers.contexts, harness.scorers.detection
import harness.subject.collect
import harness.runs.batches
from harness.runs.running import conduct
from harness.task import load_task

# a fake provider's lists never lag behind; and a small batch's results are committed in several pieces, too
harness.runs.batches.SETTLED = 0.0
harness.runs.batches.CHUNK = 5

def run(order):
    os.environ.update(order["environment"])
    outcome = asyncio.run(conduct(load_task(order["task"]), Path(order["out"])))
    return 0 if outcome.stopped_by is None and not outcome.interrupted and not outcome.waiting else 3

for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = run(order)
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""

EXPLAINER, JUDGE = "openai-api/fake/explainer", "openai-api/fake/judge"


@pytest.fixture
def remote_task(write_task: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a task that asks `explainer` and `judge`, of which logprobs are known, of the service `fake`."""

    def write(**tables: Any) -> Path:
        explainer = [{"name": "a", "kind": "contexts", "model": EXPLAINER}]
        scorer = [{"name": "detection", "kind": "detection", "model": JUDGE, "batch": 10}]
        known = {name: {"logprobs": True} for name in (EXPLAINER, JUDGE)}  # else a run begins with a probe
        return write_task(**{"explainer": explainer, "scorer": scorer, "model": known, **tables})

    return write


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Lets the service `fake` and Anthropic's be a fake provider."""

    def point(provider: Any) -> None:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)

    return point


@pytest.fixture
def units_of() -> Callable[[Path], dict[str, Unit]]:
    """All units in a run directory, by key."""

    def read(directory: Path) -> dict[str, Unit]:
        journal = Journal(directory / JOURNAL)
        return {unit.key: unit for arm in journal.arms() for unit in journal.units(arm)}

    return read


@pytest.fixture
def results_of(units_of: Callable[[Path], dict[str, Unit]]) -> Callable[[Path], set[tuple[str, str, str]]]:
    """What a run came to: (unit key, status, result hash)."""
    return lambda directory: {(key, unit.status, result_hash(unit)) for key, unit in units_of(directory).items()}


class Starter:
    """The process that starts runs."""

    async def __aenter__(self) -> Starter:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", STARTER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def start(self, task: Path, out: Path, **environment: str) -> int:
        """Start a run; gives its process id."""
        assert self._process.stdin is not None
        order = {"task": str(task), "out": str(out), "environment": environment}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return await self._line()

    async def end(self) -> int:
        """The exit code of what was started, negative where a signal ended it."""
        return os.waitstatus_to_exitcode(await self._line())

    async def _line(self) -> int:
        assert self._process.stdout is not None
        return int(await self._process.stdout.readline())


@pytest.fixture
def starting() -> Callable[[], Starter]:
    """Makes a process that starts runs, which can be killed."""
    return Starter
