"""A run's directory: who holds it, and the tasks that ran in it, frozen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout

from harness.errors import RunError
from harness.runs.journal import Journal
from harness.runs.journal_rows import TaskRecord
from harness.values import digest

__all__ = ["JOURNAL", "REPORT", "changes", "freeze", "held"]

JOURNAL = "journal.sqlite"
REPORT = Path("report") / "index.html"
# parts of the record that stand in the frozen task file: what the names in it stood for when it ran
_FROZEN = ("versions", "store", "populations", "explainers", "scorers")


@contextmanager
def held(directory: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a run directory against other processes while inside; waits for another at most `patience` seconds.

    Raises:
        RunError: another process holds it (its pid is named), or it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{directory}: the run directory cannot be made: {error.strerror}") from error
    owner = directory / "owner"
    lock = FileLock(directory / "lock", timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(f"{directory}: in use by process {_pid(owner)}; wait for it, or give another --out") from None
    except OSError as error:
        raise RunError(f"{directory}: the run directory cannot be written: {error.strerror}") from error
    try:
        owner.write_text(f"{os.getpid()}\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _pid(owner: Path) -> str:
    try:
        return owner.read_text().strip() or "unknown"
    except OSError:  # whoever holds the directory has not written it yet, or is just leaving
        return "unknown"


def freeze(directory: Path, journal: Journal, record: Mapping[str, Any]) -> tuple[TaskRecord, list[str]]:
    """Write the task beside the journal; gives its record and, where it differs from the last one, what changed.

    A changed task gets the next number and a file of its own (`task.2.toml`); files are never overwritten with
    something else.
    """
    earlier = journal.tasks()
    mark = digest([record["task"], record["store"], record["explanation_arms"], record["score_arms"]])
    if earlier and earlier[-1].digest == mark:
        return TaskRecord(earlier[-1].number, mark, record), []
    number = len(earlier) + 1
    name = "task.toml" if number == 1 else f"task.{number}.toml"
    frozen = {**record["task"], "frozen": {key: record[key] for key in _FROZEN if key in record}}
    temporary = directory / (name + ".tmp")
    temporary.write_text(tomli_w.dumps(_without_none(frozen)), encoding="utf-8")
    temporary.replace(directory / name)
    changed = changes(earlier[-1].record["task"], record["task"]) if earlier else []
    return TaskRecord(number, mark, record), changed


def changes(old: Any, new: Any, key: str = "") -> list[str]:
    """How two tasks differ, a line for each key: `scorer.0.model: "a" -> "b"`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            line
            for name in sorted({*old, *new})
            for line in changes(old.get(name), new.get(name), f"{key}.{name}" if key else str(name))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line for index, pair in enumerate(zip(old, new, strict=True)) for line in changes(*pair, f"{key}.{index}")
        ]
    return [] if old == new else [f"{key}: {old!r} -> {new!r}"]


def _without_none(value: Any) -> Any:
    """TOML has no null: keys without a value are left out."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value
