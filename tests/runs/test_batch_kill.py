"""A run by batch that is killed at each of its commits pays for every request once and has every reply in the end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.batch_rows import BatchRows
from harness.runs.directory import JOURNAL
from harness.runs.failpoints import BATCH_POINTS, VARIABLE
from harness.runs.journal import Journal
from harness.runs.outcomes import result_hash
from harness.testing import BatchFault, FakeProvider
from harness.values import digest

pytestmark = pytest.mark.anyio

WRITER, JUDGE, OTHER = "openai/writer", "anthropic/judge", "openai-api/fake/live"


@pytest.fixture
def task(write_task: Callable[..., Path]) -> Callable[..., Path]:
    def write(name: str, *, batch: bool) -> Path:
        return write_task(
            name,
            latents={"sample": 3, "min_examples": 50},
            model={
                WRITER: {"batch": batch, "logprobs": True},
                JUDGE: {"batch": batch},
                OTHER: {"logprobs": True},
            },
            explainer=[{"name": "a", "kind": "contexts", "model": WRITER}],
            scorer=[
                {"name": "detection", "kind": "detection", "model": JUDGE, "batch": 5},
                {"name": "fuzzing", "kind": "fuzzing", "model": OTHER, "batch": 5},
            ],
        )

    return write


def _found(units: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {key: (unit.status, result_hash(unit)) for key, unit in units.items()}


def _environment(provider: FakeProvider) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": provider.openai_url,
        "ANTHROPIC_BASE_URL": provider.url,
        "FAKE_BASE_URL": provider.openai_url,
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_request_is_billed_once_and_its_reply_ends_in_the_journal(
    task: Callable[..., Path],
    tmp_path: Path,
    starting: Callable[[], Any],
    units_of: Callable[[Path], dict[str, Any]],
) -> None:
    live, slow = task("live.toml", batch=False), task("slow.toml", batch=True)
    async with starting() as starter:
        async with FakeProvider() as provider:
            await starter.start(live, tmp_path / "live", **_environment(provider))
            assert await starter.end() == 0
            wanted = _found(units_of(tmp_path / "live"))
            bodies = set(provider.counts)
        killed: set[tuple[int, str]] = set()
        for looks, point in [(looks, point) for looks in (0, 1) for point in BATCH_POINTS]:
            # the first batches come back in part, so that there are more rounds
            faults = [BatchFault("expired", 0.7), BatchFault("expired", 0.4), BatchFault("duplicates")]
            async with FakeProvider(looks=looks, batch_faults=faults) as provider:
                out = tmp_path / f"{point}-{looks}"
                for count in (1, 2, 3):
                    # each time in the round that comes next
                    await starter.start(slow, out, **_environment(provider), **{VARIABLE: f"{point}:{count}"})
                    code = await starter.end()
                    assert code in (-signal.SIGKILL, 3, 0)
                    if code == -signal.SIGKILL:
                        killed.add((looks, point))
                for _ in range(20):
                    await starter.start(slow, out, **_environment(provider))
                    if (code := await starter.end()) == 0:
                        break
                    assert code == 3
                assert code == 0
                assert _found(units_of(out)) == wanted
                journal = Journal(out / JOURNAL)
                assert {digest(reply.wire["body"]) for reply in journal.replies()} == bodies
                assert BatchRows(journal).keys() == set()
                sent = [request.digest for request in provider.requests if request.batch is not None]
                assert len(set(sent)) == len(sent), "a request was sent by batch twice"
                outcomes = [a.outcome for a in journal.attempts() if a.model != OTHER]
                assert outcomes.count("ok") == len(sent)
                assert set(outcomes) == {"ok", "expired"}
                # a live request in flight at a kill may be sent again, as in any run
                assert provider.bill.generations == len(provider.requests)
        assert killed == {(looks, point) for looks in (0, 1) for point in BATCH_POINTS}
