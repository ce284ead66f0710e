from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
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


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
