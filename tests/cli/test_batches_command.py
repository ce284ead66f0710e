"""A run by batch in the terminal: what it says while it waits, what is out, and a batch that is given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.testing import FakeProvider

MODEL = "anthropic/claude-haiku-4-5"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    """A fake provider in a thread of its own, for the command has an event loop of its own; batches end at a look."""
    made = FakeProvider(looks=1)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(made.__aenter__(), loop).result()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", made.url)
    yield made
    asyncio.run_coroutine_threadsafe(made.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def task(write_task: Callable[..., Path]) -> Path:
    return write_task(
        model={MODEL: {"batch": True}},
        explainer=[{"name": "a", "kind": "contexts", "model": MODEL}],
        scorer=[{"name": "detection", "kind": "detection", "model": MODEL, "batch": 5}],
    )


def test_a_run_that_waits_ends_with_3_and_another_goes_on(
    harness: Callable[..., Any], provider: FakeProvider, task: Path
) -> None:
    said = harness("run", task)
    assert (said.code, said.out) == (3, "")
    assert "submitted msgbatch_0: 20 requests to anthropic/claude-haiku-4-5, at most $" in said.err
    assert said.err.endswith("harness: waiting for 1 batch, run again to collect\n")
    listed = harness("batches", "runs/t")
    assert listed.code == 0
    assert "msgbatch_0" in listed.out
    assert "out: 1 of 1 batches with 20 requests, at most $" in listed.out
    planned = harness("plan", task)
    assert "to come of anthropic/claude-haiku-4-5: 0." in planned.out
    # this looks, and the batch ends
    assert harness("run", task).code == 3
    assert "collected msgbatch_0: 20 replies, $" in harness("run", task).err
    assert "collected" in harness("batches", "runs/t").out


def test_waiting_goes_through_all_rounds(
    harness: Callable[..., Any], provider: FakeProvider, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.runs.batches.PAUSE", 0.0)
    said = harness("run", task, "--wait")
    assert said.code == 0
    assert "done: 12 explanations, 12 scores; failed: none" in said.out
    assert max(provider.counts.values()) == 1
    assert "out: 0 of 2 batches with 0 requests" in harness("batches", "runs/t").out


def test_a_variance_that_waits_ends_with_3_and_another_goes_on(
    harness: Callable[..., Any], provider: FakeProvider, task: Path
) -> None:
    drawn = "variance", task, "--draws", "2", "--explainer-samples", "1", "--scorer-samples", "1"
    said = harness(*drawn)
    assert (said.code, said.out) == (3, "")
    assert said.err.endswith("batches, run it again to collect\n")
    for _ in range(6):
        if (said := harness(*drawn)).code == 0:
            break
    assert "balanced accuracy of detection" in said.out
    assert max(provider.counts.values()) == 1


def test_a_batch_that_is_given_up_is_asked_anew_and_stays_charged(
    harness: Callable[..., Any], provider: FakeProvider, task: Path
) -> None:
    harness("run", task)
    assert "no batch nonsense is out; out: msgbatch_0" in harness("batches", "runs/t", "--forget", "nonsense").err
    assert "forgotten" in harness("batches", "runs/t", "--forget", "msgbatch_0").out
    assert "submitted msgbatch_1: 20 requests" in harness("run", task).err
    assert set(provider.counts.values()) == {2}


def test_what_is_no_run_and_what_went_without_batches_says_so(
    harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path
) -> None:
    said = harness("batches", tmp_path)
    assert (said.code, "no run directory (there is no journal.sqlite in it)" in said.err) == (2, True)
    harness("run", write_task())
    assert harness("batches", "runs/t").out == "nothing went by batch here\n"
    refused = harness("run", write_task(model={"lexical/rules": {"batch": True}}))
    assert refused.code == 2
    assert "lexical/ has no batch API: openai/ and anthropic/ have one" in refused.err
