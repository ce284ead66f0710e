"""One writer at a time: a file lock on a folder that tells who holds it."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["FolderLock"]


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
