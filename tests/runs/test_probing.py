from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import TaskError
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.progress import Silent
from harness.runs.running import conduct
from harness.task import load_task
from harness.testing import FakeProvider, Fault

pytestmark = pytest.mark.anyio

JUDGE = "openai-api/fake/judge"
UNKNOWN = {JUDGE: {}}


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def mute(received: Any) -> Fault | None:
    """A model that leaves logprobs out."""
    return Fault("null_logprobs") if received.body.get("logprobs") else None


def scorer(**settings: Any) -> list[dict[str, Any]]:
    return [{"name": "detection", "kind": "detection", "model": JUDGE, "batch": 10, **settings}]


async def test_a_model_that_lacks_what_a_scorer_needs_is_refused_after_one_question(
    remote_task: Callable[..., Path], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    task = load_task(remote_task(model=UNKNOWN, scorer=scorer(logprobs=True)))
    async with FakeProvider(faults=mute) as provider:
        point_at(provider)
        with pytest.raises(TaskError, match=f"detection: {JUDGE} gives no logprobs; take a model that gives them"):
            await conduct(task, tmp_path / "run")
        assert len(provider.requests) == 1


async def test_what_is_only_wished_for_is_told_and_not_asked_for(
    remote_task: Callable[..., Path], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    notes = Notes()
    task = load_task(remote_task(model=UNKNOWN, scorer=scorer()))
    async with FakeProvider(faults=mute) as provider:
        point_at(provider)
        outcome = await conduct(task, tmp_path / "run", progress=notes)
        asked = [request for request in provider.requests if request.body.get("logprobs")]
    assert set(outcome.statuses) == {"ok"}
    assert len(asked) == 1
    assert any(f"{JUDGE} gives no logprobs: labels without probabilities" in line for line in notes.lines)


async def test_a_probe_is_kept_and_not_repeated(
    remote_task: Callable[..., Path], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    task = load_task(remote_task(model=UNKNOWN, scorer=scorer()))
    async with FakeProvider() as provider:
        point_at(provider)
        await conduct(task, tmp_path / "run")
        before = len(provider.requests)
        await conduct(task, tmp_path / "run")
        assert len(provider.requests) == before
    stages = [attempt.stage for attempt in Journal(tmp_path / "run" / JOURNAL).attempts()]
    assert stages.count("probe") == 1
