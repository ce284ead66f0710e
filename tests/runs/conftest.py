"""What tests of runs share: the backend, models behind a provider's server, and what a run left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.conductor import result_hash
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal, Unit

EXPLAINER, JUDGE = "openai-api/fake/explainer", "openai-api/fake/judge"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
