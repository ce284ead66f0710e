"""One writer at a time: a file lock on a folder that tells who holds it; and what a disk refuses, in a sentence."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import StoreError

__all__ = ["FolderLock", "take", "writing"]


class FolderLock:
    """Holds a folder for this process until released or the process ends."""

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder / ".lock", timeout=0)
        self._owner = folder / ".lock.pid"

    def acquire(self) -> int | None:
        """Take the lock; returns None, or the holder's process id (0 where it is unknown) if it is taken."""
        try:
            self._lock.acquire()
        except Timeout:
            try:
                return int(self._owner.read_text("ascii"))
            except (OSError, ValueError):
                return 0
        # beside the lock and not in it: a second process that tries the lock may empty the lock file
        self._owner.write_text(str(os.getpid()), "ascii")
        return None

    def release(self) -> None:
        """Give the lock back; harmless if it is not held."""
        if self._lock.is_locked:
            self._owner.unlink(missing_ok=True)
            self._lock.release()


def take(folder: Path) -> FolderLock:
    """The lock of a store's folder, held.

    Raises:
        StoreError: another writer holds it.
    """
    lock = FolderLock(folder)
    holder = lock.acquire()
    if holder is not None:
        who = f"process {holder}" if holder else "another process"
        raise StoreError(f"{folder} is being written by {who}: wait for it to end or choose another folder")
    return lock


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What the disk refuses becomes one sentence; everything finished stays, and what was half written is not read.

    Raises:
        StoreError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"no space is left on the disk of {folder}: free some and collect again, which goes on from the last "
                "finished segment"
            ) from error
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}") from error
