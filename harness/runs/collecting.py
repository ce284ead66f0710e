"""Where collected stores lie, and collecting them for a run that may be stopped meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio

from harness.runs.parts import Collecting, Crew
from harness.runs.progress import Progress
from harness.runs.stop import Stop
from harness.store import Store
from harness.store.format import read_manifest
from harness.subject.collect import collect, store_config
from harness.subject.worker import Caller, worker
from harness.task import CoderSettings, Task
from harness.validation import naming

__all__ = ["collected", "is_collected", "store_folder"]

# where collected stores lie, under the working directory; runs of equal settings share one
_STORES = Path("stores")


def store_folder(task: Task, coders: Sequence[CoderSettings] | None = None) -> Path:
    """Where the store lies, or will lie, that a task's subject has of its own coders, or of others."""
    assert task.subject is not None
    return _STORES / store_config(task.subject, task.coder if coders is None else coders, task.base)[:16]


def is_collected(folder: Path) -> bool:
    """Whether a finished store is in a folder."""
    return (folder / "manifest.json").is_file() and read_manifest(folder).finished


async def collected(
    task: Task, coders: Sequence[CoderSettings], progress: Progress, stop: Stop, crew: Crew | None = None
) -> Store | None:
    """The store of what coders say of the task's corpus, collected if need be; None if that was stopped.

    A `crew` does what it can first.

    Raises:
        UserError: something in the settings does not fit.
    """
    subject = task.subject
    assert subject is not None
    with naming(task.source):
        out = await anyio.to_thread.run_sync(store_folder, task, coders)

    def work(caller: Caller) -> Store:
        def tell(done: int, total: int) -> None:
            caller.check()
            if stop.wished:
                raise _StoppedCollecting
            progress.collecting(done, total)

        return collect(subject, coders, out, tell, task.base)

    try:
        with naming(task.source):
            if crew is not None and not is_collected(out):
                await crew.collect(Collecting(subject, tuple(coders), out, task.base), progress, stop)
                if stop.wished:
                    return None
            return await worker(subject.device).call(work)
    except _StoppedCollecting:
        return None


class _StoppedCollecting(BaseException):
    """The wish to stop, carried out of the thread that collects."""
