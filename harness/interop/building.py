"""What imports of activations share: a store that appears when it is complete, and how rows part into documents."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError
from harness.store.lock import FolderLock

__all__ = ["building", "documents_between"]


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


def documents_between(special: NDArray[np.bool_], start: int) -> NDArray[np.int32]:
    """A document for each stretch of text between special tokens, none across rows, int32 `[rows, positions]`.

    `special` says which positions of the rows from row `start` on are no text; they are of document -1.
    """
    # named after the position that it begins at, so that no block needs to know of those before
    begins = np.ones(special.shape, dtype=bool)
    begins[:, 1:] = special[:, :-1]
    places = np.arange(special.size, dtype=np.int64).reshape(special.shape) + start * special.shape[1]
    starts = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    return np.where(special, -1, starts % np.iinfo(np.int32).max).astype(np.int32)
