from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.running import conduct
from harness.task import load_task
from harness.testing import FakeProvider, Fault

pytestmark = pytest.mark.anyio


async def test_a_run_without_any_reply_stops_and_says_what_it_waited_for(
    remote_task: Callable[..., Path], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    task = load_task(remote_task(limits={"patience": 0.5}))
    async with FakeProvider(faults=lambda _: Fault("hang")) as provider:
        point_at(provider)
        outcome = await conduct(task, tmp_path / "run")
    assert outcome.stopped_by is not None
    assert outcome.stopped_by.startswith("no reply came in ")
    assert "openai-api/fake/explainer" in outcome.stopped_by or "explainer" in outcome.stopped_by
    assert "limits.patience" in outcome.stopped_by
    async with FakeProvider() as provider:
        point_at(provider)
        whole = await conduct(task, tmp_path / "run")
    assert whole.stopped_by is None
    assert set(whole.statuses) == {"ok"}


async def test_replies_that_come_are_success_enough(
    remote_task: Callable[..., Path], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    task = load_task(remote_task(limits={"patience": 1.0, "requests": 2}))
    async with FakeProvider(delay=0.2) as provider:
        point_at(provider)
        outcome = await conduct(task, tmp_path / "run")
    # longer than the patience altogether
    assert outcome.stopped_by is None
