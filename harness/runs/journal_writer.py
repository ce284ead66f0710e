"""The one thread that writes a journal: what is queued is committed in groups, each whole or not at all."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from harness.errors import RunError
from harness.runs.journal_rows import Operation
from harness.runs.rhythm import Rhythm
from harness.runs.schema import connected

__all__ = ["JournalWriter"]

# a group commit takes what is queued, up to this many operations
_GROUP = 512

_Queued = tuple[list[Operation], asyncio.Future[None] | None]


class JournalWriter:
    """Writes a journal for the running event loop until it is closed; `commits` counts its transactions."""

    def __init__(self, path: Path) -> None:
        self.commits = 0
        self._path = path
        self._queue: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, args=[connected(path)], name="journal", daemon=True)
        self._thread.start()

    async def commit(self, operations: Sequence[Operation]) -> None:
        """Commit statements, all or none of them; returns when they are on disk."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((list(operations), done))
        await done

    def add(self, operations: Sequence[Operation]) -> None:
        """Leave statements for the next commit, at the latest that of closing."""
        self._queue.put((list(operations), None))

    def close(self) -> None:
        """Write what is queued and end."""
        self._queue.put(None)
        self._thread.join()

    def _write(self, connection: sqlite3.Connection) -> None:
        rhythm = Rhythm(time.monotonic())
        try:
            while (group := self._next_group(rhythm.pause)) is not None:
                rhythm.gathered(sum(len(operations) for operations, _ in group), time.monotonic())
                error = _apply(connection, [operation for operations, _ in group for operation in operations])
                self.commits += 1
                self._tell([done for _, done in group if done is not None], error)
        finally:
            connection.close()

    def _next_group(self, pause: float) -> list[_Queued] | None:
        """What is queued, at least one, after giving it `pause` seconds to gather; None at the end."""
        first = self._queue.get()
        if first is None:
            return None
        if pause:
            time.sleep(pause)
        group = [first]
        while len(group) < _GROUP and not self._queue.empty():
            item = self._queue.get()
            if item is None:
                self._queue.put(None)  # the end, left for the next look
                break
            group.append(item)
        return group

    def _tell(self, waiting: list[asyncio.Future[None]], error: Exception | None) -> None:
        def resolve() -> None:
            for done in waiting:
                if done.done():
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(RunError(f"{self._path}: the journal cannot be written: {error}"))

        self._loop.call_soon_threadsafe(resolve)


def _apply(connection: sqlite3.Connection, operations: Sequence[Operation]) -> Exception | None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        for statement, row in operations:
            connection.execute(statement, row)
        connection.execute("COMMIT")
    except Exception as error:  # whatever it is, those who wait for the commit have to hear of it
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return error
    return None
