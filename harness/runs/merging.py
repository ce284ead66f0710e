"""Journals of workers become part of their run's journal: what they did, what they were told and what it cost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from harness.runs.directory import JOURNAL, held
from harness.runs.schema import connected

__all__ = [
    "BENEATH",
    "WORKERS",
    "merge",
    "merge_worker",
    "merge_workers",
    "snapshot",
    "worker_folder",
]

# inside a run directory: a run directory for each worker, and what was done before they began
WORKERS = "workers"
BENEATH = "done.sqlite"

# seconds until the processes of a run whose own process was killed are gone, too
_PATIENCE = 30.0

# What is there already stays, but for what is newer or was not known: merging twice is merging once.
_MERGE = """
INSERT OR IGNORE INTO replies SELECT * FROM other.replies;
INSERT OR IGNORE INTO arms SELECT * FROM other.arms;
INSERT INTO attempts SELECT * FROM other.attempts WHERE true
    ON CONFLICT (id) DO UPDATE SET outcome = excluded.outcome, tokens = excluded.tokens, dollars = excluded.dollars,
        input = excluded.input, cache_read = excluded.cache_read, cache_write = excluded.cache_write,
        output = excluded.output, reasoning = excluded.reasoning, seconds = excluded.seconds
    WHERE attempts.outcome IS NULL;
INSERT INTO units SELECT * FROM other.units WHERE true
    ON CONFLICT (key) DO UPDATE SET status = excluded.status, pending = excluded.pending, result = excluded.result,
        verdicts = excluded.verdicts, replies = excluded.replies, created = excluded.created
    WHERE excluded.created > units.created;
"""


def worker_folder(directory: Path, number: int) -> Path:
    """The run directory of a run's worker."""
    return directory / WORKERS / str(number)


def _worker_folders(directory: Path) -> Iterator[Path]:
    """The directories of workers that were not merged yet."""
    for path in sorted((directory / WORKERS).glob("*")):
        if path.is_dir():
            yield path


def merge_worker(directory: Path, worker: Path) -> None:
    """Merge what a worker journalled, once it is gone, and delete its directory.

    Raises:
        RunError: it is still at work, or its journal cannot be read.
    """
    with held(worker, patience=_PATIENCE):
        if (worker / JOURNAL).exists():
            merge(directory / JOURNAL, worker / JOURNAL)
    shutil.rmtree(worker)


def merge_workers(directory: Path) -> None:
    """Merge what the workers of an earlier run left, if it left anything.

    Raises:
        RunError: as `merge_worker`.
    """
    if (directory / WORKERS).is_dir():
        for worker in _worker_folders(directory):
            merge_worker(directory, worker)
        shutil.rmtree(directory / WORKERS)


def merge(journal: Path, other: Path) -> None:
    """Put all of another journal into a journal that nobody is writing, as one transaction.

    Raises:
        RunError: one of them is no journal.
    """
    # brings the other one up to date
    connected(other).close()
    with closing(connected(journal)) as connection:
        connection.execute("ATTACH ? AS other", [os.fspath(other)])
        connection.executescript(f"BEGIN IMMEDIATE; {_MERGE} COMMIT;")


def snapshot(directory: Path) -> Path:
    """A copy of a run's journal for its workers to look up what was done before they began; they never write it."""
    copy = directory / WORKERS / BENEATH
    copy.parent.mkdir(exist_ok=True)
    copy.unlink(missing_ok=True)
    with closing(connected(directory / JOURNAL)) as connection:
        connection.execute("VACUUM INTO ?", [os.fspath(copy)])
    return copy
