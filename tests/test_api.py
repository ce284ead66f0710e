from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.errors import TaskError
from harness.runs.progress import Silent
from harness.runs.stop import Stop
from harness.testing import FakeProvider, Fault

pytestmark = pytest.mark.anyio

FEW = {"sample": 2, "min_examples": 50}


async def test_arun_gives_the_run_and_writes_its_report(write_task: Callable[..., Path], tmp_path: Path) -> None:
    run = await harness.arun(write_task(latents=FEW), tmp_path / "out")
    assert isinstance(run, harness.Run)
    assert len(run.scores()) == 6
    assert (tmp_path / "out" / "report" / "index.html").is_file()


def test_run_works_where_no_loop_runs(
    write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = harness.run(write_task(), overrides=["seed=2"], limit=1, report=False)
    assert run.path == Path("runs/t")
    assert (run.seed, len(run.explanations())) == (2, 3)
    assert not (tmp_path / "runs" / "t" / "report").exists()


async def test_run_works_inside_a_running_loop(write_task: Callable[..., Path], tmp_path: Path) -> None:
    run = harness.run(write_task(latents=FEW), tmp_path / "out", report=False)
    assert len(run.verdicts()) == 6 * 20


def test_a_task_can_be_given_as_a_value(write_task: Callable[..., Path], tmp_path: Path) -> None:
    task = harness.load_task(write_task(latents=FEW), ["name=other"])
    assert harness.run(task, tmp_path / "out", report=False).name == "other"


def _units(directory: Path) -> set[bytes]:
    with closing(sqlite3.connect(directory / "journal.sqlite")) as journal:
        return {key for (key,) in journal.execute("SELECT key FROM units")}


def test_variance_draws_everything_again_and_goes_on_where_it_was(
    erring_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = harness.variance(
        erring_task, draws=2, explainer_samples=1, scorer_samples=3, overrides=["name=told"], limit=5
    )
    directory = Path("runs/told-variance")
    assert (found.scorer, found.latents, found.left_out, found.design.scorer_samples) == ("detection", 5, 0, 3)
    assert set(found.score["source"]) == {"latents", "examples", "scorer", "total"}
    units = _units(directory)
    # 2 explainers in 2 draws, an explanation and 3 scores of each
    assert len(units) == 5 * 2 * 2 * (1 + 3)
    again = harness.variance(
        erring_task, draws=2, explainer_samples=1, scorer_samples=3, overrides=["name=told"], limit=5
    )
    assert again.score.equals(found.score)
    assert _units(directory) == units


async def test_variance_works_inside_a_running_loop_and_is_awaited(erring_task: Path, tmp_path: Path) -> None:
    task = harness.load_task(erring_task)
    how: dict[str, Any] = {"draws": 2, "explainer_samples": 1, "scorer_samples": 2, "limit": 3}
    awaited = await harness.avariance(task, tmp_path / "a", **how)
    assert harness.variance(task, tmp_path / "b", **how).components.equals(awaited.components)


async def test_a_variance_that_is_not_done_says_how_to_go_on(erring_task: Path, tmp_path: Path) -> None:
    stop = Stop()
    stop.wish()
    with pytest.raises(harness.HarnessError, match="interrupted; run it again to go on"):
        await harness.avariance(erring_task, tmp_path / "out", stop=stop)
    with pytest.raises(harness.UserError, match="draws is 0, and at least 1"):
        await harness.avariance(erring_task, tmp_path / "out", draws=0)


async def test_mistakes_come_through_plain(tmp_path: Path, write_task: Callable[..., Path]) -> None:
    with pytest.raises(TaskError, match="beyond coder words"):
        await harness.arun(write_task(latents={"ids": [99]}), tmp_path / "out")
    with pytest.raises(TaskError, match="beyond coder words"):
        harness.run(write_task(latents={"ids": [99]}), tmp_path / "out")
    with pytest.raises(harness.UserError, match="no run directory"):
        harness.load(tmp_path / "nothing")


async def test_a_stopped_provider_is_run_stopped(
    write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = write_task(explainer=[{"name": "a", "kind": "contexts", "model": "openai-api/fake/m"}], latents=FEW)
    async with FakeProvider(faults=lambda _: Fault("quota")) as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        with pytest.raises(
            harness.HarnessError, match=r"answered 429: .*; what was paid for is kept: run the task again"
        ):
            await harness.arun(task, tmp_path / "out")
    assert len(harness.load(tmp_path / "out").scores()) == 2  # those of "none"


async def test_a_run_that_is_stopped_at_once_says_how_to_go_on(write_task: Callable[..., Path], tmp_path: Path) -> None:
    stop = Stop()
    stop.wish()
    with pytest.raises(harness.HarnessError, match="interrupted; run the task again to go on"):
        await harness.arun(write_task(latents=FEW), tmp_path / "out", stop=stop)


async def test_an_interrupt_inside_a_running_loop_drains_and_is_raised(
    write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook's stop button, while `harness.run` holds its cell."""

    class Interrupts(Silent):
        def latent(self) -> None:
            assert threading.current_thread() is not threading.main_thread()
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            harness.run(
                write_task(latents={"sample": 8, "min_examples": 50}),
                tmp_path / "out",
                overrides=["limits.latents=1"],
                progress=Interrupts(),
            )
    finally:
        signal.signal(signal.SIGINT, before)
    done = len(harness.load(tmp_path / "out").explanations())
    assert 0 < done < 8 * 3


NOTEBOOK = [
    "import harness",
    "run = await harness.arun({task!r}, 'first', report=False)\nprint(len(run.explanations()), len(run.scores()))",
    "again = harness.run({task!r}, 'second', report=False)\nprint(again.scores().equals(run.scores()))",
    "print(sorted(run.explanations().columns))",
    "run.scores()[['latent', 'scorer']].head(1)",
]


@pytest.mark.slow
def test_in_a_live_notebook(write_task: Callable[..., Path], tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    task = str(write_task(latents=FEW))
    cells = [nbformat.v4.new_code_cell(cell.format(task=task)) for cell in NOTEBOOK]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    told: list[Any] = [cell.outputs[0] if cell.outputs else None for cell in notebook.cells]
    assert told[1]["text"] == "6 6\n"
    assert told[2]["text"] == "True\n"
    assert "status" in told[3]["text"]
    assert "<table" in told[4]["data"]["text/html"]
    assert json.dumps(notebook)
