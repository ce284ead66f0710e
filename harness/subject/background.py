"""A store written on a thread of its own, so that the subject reads on meanwhile."""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from harness.errors import StoreError
from harness.store import Rows, StoreWriter

__all__ = ["BackgroundWriter", "full_disk_told"]

# Batches that may wait for the writer: it is ahead on average, and memory stays bounded where it is not.
_AHEAD = 2

_Batch = tuple[NDArray[Any], NDArray[Any], Mapping[str, Rows]]


class BackgroundWriter:
    """Appends to a StoreWriter on a thread; a context manager around what is appended, one thread's use at a time.

    What goes wrong on the thread is raised at the next `append`, or at the end. However the block ends, the thread
    has ended with it, and what was appended is on disk, so that a resumed collection goes on from there; only where
    writing itself failed, what was not written is lost.
    """

    def __init__(self, writer: StoreWriter, ahead: int = _AHEAD) -> None:
        self._writer = writer
        self._batches: queue.Queue[_Batch | None] = queue.Queue(ahead)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)

    def append(self, tokens: NDArray[Any], documents: NDArray[Any], rows: Mapping[str, Rows]) -> None:
        """Hand over contexts as `StoreWriter.append` takes them; waits where too many wait already.

        Raises:
            Exception: what writing earlier ones raised.
        """
        self._raise()
        self._batches.put((tokens, documents, rows))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches.put(None)
        self._thread.join()
        if error is None:
            self._raise()
        elif self._failure is None:
            # the caller's own error is what has to be told
            with suppress(Exception):
                self._writer.flush()

    def _serve(self) -> None:
        while (batch := self._batches.get()) is not None:
            # after a failure batches are taken and left, so that nobody waits for ever to hand one over
            if self._failure is None:
                try:
                    self._writer.append(*batch)
                except BaseException as failure:
                    self._failure = failure

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure


@contextmanager
def full_disk_told(store: Path) -> Iterator[None]:
    """Tell of a full disk in one sentence.

    Raises:
        StoreError: no space is left for the store.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(
            f"{store}: the disk is full; free some space and do the same again: it goes on from what is written"
        ) from error
