"""Running a task from Python: `arun` where an event loop runs, `run` anywhere, notebooks included."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.analysis.load import Run, load
from harness.errors import RunStopped
from harness.report import write_report
from harness.runs.progress import Progress
from harness.runs.running import Outcome, conduct, default_directory
from harness.task import Task, load_task

__all__ = ["arun", "run"]


async def arun(
    task: Task | str | Path,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    retry_failed: bool = False,
    report: bool = True,
    progress: Progress | None = None,
) -> Run:
    """Run a task, or finish one that was interrupted, and read what came out.

    `task` is a Task, a file or a shipped task's name; `out` the run directory, `runs/<name>` unless given; `limit`
    the most latents of each coder. Units that failed are in the tables, with the reason.

    Raises:
        UserError: the task or something that it names is wrong.
        RunStopped: a provider or the budget stopped the run; running it again goes on from there.
    """
    if not isinstance(task, Task):
        task = load_task(task, overrides)
    directory = Path(out) if out is not None else default_directory(task)
    outcome = await conduct(task, directory, limit=limit, retry_failed=retry_failed, progress=progress)
    return finished(outcome, report=report)


def run(
    task: Task | str | Path,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    retry_failed: bool = False,
    report: bool = True,
    progress: Progress | None = None,
) -> Run:
    """As `arun`, for where nothing is awaited; inside a running event loop it works in a thread of its own."""

    def work() -> Run:
        return asyncio.run(
            arun(
                task,
                out,
                overrides=overrides,
                limit=limit,
                retry_failed=retry_failed,
                report=report,
                progress=progress,
            )
        )

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1, thread_name_prefix="harness-run") as thread:
        return thread.submit(work).result()


def finished(outcome: Outcome, *, report: bool) -> Run:
    """A run that ended, read back, with its report written.

    Raises:
        RunStopped: a provider or the budget stopped it.
    """
    loaded = load(outcome.directory)
    if report:
        write_report(loaded)
    if outcome.stopped_by is not None:
        raise RunStopped(f"{outcome.stopped_by}; what was paid for is kept: run the task again to go on")
    return loaded
