"""A store that is made from files: it appears under its name when it is complete, and not at all if that fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import StoreError
from harness.store.lock import FolderLock

__all__ = ["building"]


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """Gives the folder to write a store into; afterwards it lies at `out`, or is gone if an error came.

    Raises:
        StoreError: there is something at `out`, or another import writes there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "already holds a store" if (out / "manifest.json").exists() else "is there already"
        raise StoreError(f"{out} {what}: delete it or choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    # beside it, so that the last step is a rename
    room = out.with_name(f".{out.name}.importing")
    room.mkdir(exist_ok=True)
    lock = FolderLock(room)
    if (holder := lock.acquire()) is not None:
        raise StoreError(f"{out} is being imported by process {holder}: wait for it or choose another folder")
    try:
        # what a killed import left
        shutil.rmtree(room / "store", ignore_errors=True)
        yield room / "store"
        if out.is_dir():
            out.rmdir()
        (room / "store").rename(out)
    finally:
        lock.release()
        shutil.rmtree(room, ignore_errors=True)
