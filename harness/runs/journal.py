"""The journal of a run: what was asked and paid for, and what is done; one SQLite file, one writer thread.

Tables:
    replies   the exact wire request and sample -> the reply; committed before anybody parses it
    intents   requests sent whose outcome was never learned; a row goes when its reply comes
    units     the smallest pieces of work -> status and result
    arms      an arm's digest -> what it is, in words
    tasks     the tasks that ran here, in order, with the latents and arms that each reaches

Keys are hashes and nothing counts up by itself, so journals can be merged.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.clients.protocol import Reply
from harness.clients.serialise import reply_from_data, reply_to_data
from harness.errors import RunError
from harness.runs.failpoints import passing
from harness.values import Status

__all__ = ["SCHEMA", "Journal", "StoredReply", "TaskRecord", "Unit"]

SCHEMA = 1

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE replies (key BLOB PRIMARY KEY, wire BLOB NOT NULL, reply BLOB NOT NULL, created REAL NOT NULL);
CREATE TABLE intents (key BLOB PRIMARY KEY, attempts INTEGER NOT NULL, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE arms (digest BLOB PRIMARY KEY, description TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tasks (number INTEGER PRIMARY KEY, digest TEXT NOT NULL, record TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE units (
    key BLOB PRIMARY KEY, arm BLOB NOT NULL, latent INTEGER NOT NULL, status TEXT NOT NULL, pending INTEGER NOT NULL,
    result BLOB NOT NULL, verdicts BLOB, replies BLOB NOT NULL, created REAL NOT NULL
);
CREATE INDEX units_of_arm ON units (arm, latent);
"""
# a group commit waits for no one: it takes what is queued, up to this many operations
_GROUP = 512


@dataclass(frozen=True, slots=True)
class Unit:
    """One finished piece of work.

    `arm` is the arm's digest, `result` JSON-able, `verdicts` a compressed array for scores, `replies` the keys of
    the replies it rests on, of which the journal keeps 24 hex digits: enough to tell replies apart. `pending` units
    failed for a passing reason and are done again on resume.
    """

    key: str
    arm: str
    latent: int
    status: Status
    result: Mapping[str, Any]
    verdicts: bytes | None = None
    replies: tuple[str, ...] = ()
    pending: bool = False


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A reply with the wire request that it answers."""

    key: str
    wire: Mapping[str, Any]
    reply: Reply


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it ran here: `record` holds its settings, arms, latents and versions."""

    number: int
    digest: str
    record: Mapping[str, Any]


_Operation = tuple[str, Sequence[Any]]


class Journal:
    """A run's journal, open for reading; inside its async context for writing, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reading = _connect(path)
        if not self._reading.execute("SELECT name FROM sqlite_master").fetchone():
            _create(self._reading)
        _check_schema(self._reading, path)
        self._queue: queue.SimpleQueue[tuple[list[_Operation], asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.commits = 0

    async def __aenter__(self) -> Journal:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, args=[_connect(self.path)], name="journal", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()
        self.close()

    def close(self) -> None:
        """Close a journal that was opened for reading alone."""
        self._reading.close()

    # what clients.replies.Keeper asks for

    def get(self, key: str) -> Reply | None:
        """The remembered reply of a request, or None."""
        row = self._reading.execute("SELECT reply FROM replies WHERE key = ?", [bytes.fromhex(key)]).fetchone()
        return None if row is None else reply_from_data(_unpack(row[0]))

    async def intend(self, key: str, wire: Mapping[str, Any]) -> None:  # noqa: ARG002 - the wire is kept with its reply
        """Commit that a request is about to be sent."""
        statement = (
            "INSERT INTO intents VALUES (?, 1, ?) ON CONFLICT (key) DO UPDATE SET attempts = attempts + 1, "
            "created = excluded.created"
        )
        await self._commit([(statement, [bytes.fromhex(key), time.time()])])
        passing("intent-written")

    async def keep(self, key: str, wire: Mapping[str, Any], reply: Reply) -> None:
        """Commit a reply; returns when it is on disk."""
        passing("reply-received")
        binary = bytes.fromhex(key)
        row = [binary, _pack(wire), _pack(reply_to_data(reply)), time.time()]
        await self._commit(
            [
                ("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?)", row),
                ("DELETE FROM intents WHERE key = ?", [binary]),
            ]
        )
        passing("reply-committed")

    # units

    def unit(self, key: str) -> Unit | None:
        """The unit of a key, or None where it is not done."""
        row = self._reading.execute(_UNIT + " WHERE key = ?", [bytes.fromhex(key)]).fetchone()
        return None if row is None else _unit(row)

    async def finish(self, unit: Unit) -> None:
        """Commit a unit; one of the same key is replaced."""
        statement = "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        row = [
            bytes.fromhex(unit.key),
            bytes.fromhex(unit.arm),
            unit.latent,
            unit.status,
            int(unit.pending),
            _pack(unit.result),
            unit.verdicts,
            b"".join(bytes.fromhex(key)[:_PREFIX] for key in unit.replies),
            time.time(),
        ]
        await self._commit([(statement, row)])
        passing("unit-committed")

    def units(self, arm: str) -> Iterator[Unit]:
        """All units of an arm, by latent."""
        cursor = self._reading.execute(_UNIT + " WHERE arm = ? ORDER BY latent", [bytes.fromhex(arm)])
        return (_unit(row) for row in cursor)

    async def forget(self, keys: Sequence[str]) -> None:
        """Drop replies, by whole keys or a unit's, so that they are asked for again."""
        await self._commit([("DELETE FROM replies WHERE key BETWEEN ? AND ?", _range(key)) for key in keys])

    # replies, intents

    def reply(self, key: str) -> StoredReply | None:
        """A reply with its wire request."""
        statement = "SELECT key, wire, reply FROM replies WHERE key BETWEEN ? AND ?"
        row = self._reading.execute(statement, _range(key)).fetchone()
        return None if row is None else StoredReply(row[0].hex(), _unpack(row[1]), reply_from_data(_unpack(row[2])))

    def replies(self) -> Iterator[StoredReply]:
        """All replies, in the order of their keys."""
        for key, wire, reply in self._reading.execute("SELECT key, wire, reply FROM replies ORDER BY key"):
            yield StoredReply(key.hex(), _unpack(wire), reply_from_data(_unpack(reply)))

    def intents(self) -> dict[str, int]:
        """Requests whose outcome was never learned, with the number of times they were sent."""
        return {key.hex(): attempts for key, attempts in self._reading.execute("SELECT key, attempts FROM intents")}

    # tasks and arms

    def tasks(self) -> list[TaskRecord]:
        """The tasks that ran here, oldest first."""
        rows = self._reading.execute("SELECT number, digest, record FROM tasks ORDER BY number").fetchall()
        return [TaskRecord(number, digest, json.loads(record)) for number, digest, record in rows]

    async def begin(self, record: TaskRecord, arms: Mapping[str, Mapping[str, Any]]) -> None:
        """Commit the task that runs now, and its arms."""
        row = [record.number, record.digest, json.dumps(record.record), time.time()]
        operations: list[_Operation] = [("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?)", row)]
        operations += [
            ("INSERT OR REPLACE INTO arms VALUES (?, ?)", [bytes.fromhex(digest), json.dumps(description)])
            for digest, description in arms.items()
        ]
        await self._commit(operations)

    def arms(self) -> dict[str, dict[str, Any]]:
        """Every arm that ran here: digest -> description."""
        rows = self._reading.execute("SELECT digest, description FROM arms")
        return {digest.hex(): json.loads(description) for digest, description in rows}

    # the writer

    async def _commit(self, operations: list[_Operation]) -> None:
        assert self._loop is not None
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((operations, done))
        await done

    def _write(self, connection: sqlite3.Connection) -> None:
        try:
            while (group := self._next_group()) is not None:
                error = _apply(connection, [operation for operations, _ in group for operation in operations])
                self.commits += 1
                self._tell([done for _, done in group], error)
        finally:
            connection.close()

    def _next_group(self) -> list[tuple[list[_Operation], asyncio.Future[None]]] | None:
        first = self._queue.get()
        if first is None:
            return None
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
                    done.set_exception(RunError(f"{self.path}: the journal cannot be written: {error}"))

        assert self._loop is not None
        self._loop.call_soon_threadsafe(resolve)


# bytes of a reply's key that a unit keeps: among 2 ** 40 replies two share these with a chance of 2 ** -17
_PREFIX = 12
_KEY = 32

_UNIT = "SELECT key, arm, latent, status, pending, result, verdicts, replies FROM units"


def _range(key: str) -> tuple[bytes, bytes]:
    """The first and last key that begin as this one does."""
    start = bytes.fromhex(key)
    return start.ljust(_KEY, b"\x00"), start.ljust(_KEY, b"\xff")


def _unit(row: Sequence[Any]) -> Unit:
    key, arm, latent, status, pending, result, verdicts, replies = row
    keys = tuple(replies[at : at + _PREFIX].hex() for at in range(0, len(replies), _PREFIX))
    return Unit(key.hex(), arm.hex(), latent, status, _unpack(result), verdicts, keys, bool(pending))


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        # a score is some 2.5 kB: of pages of SQLite's usual 4 kB each would waste a third (of new files only)
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a committed reply was paid for and has to outlive a power cut
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise RunError(f"{path}: this journal cannot be opened: {error}") from error
    return connection


def _create(connection: sqlite3.Connection) -> None:
    connection.executescript(f"BEGIN; {_TABLES} INSERT INTO meta VALUES ('schema', '{SCHEMA}'); COMMIT;")


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    try:
        found = int(connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise RunError(f"{path}: this file is no journal of a run") from error
    if found > SCHEMA:
        raise RunError(f"{path}: written by a newer version (schema {found}, this version reads up to {SCHEMA})")


def _apply(connection: sqlite3.Connection, operations: list[_Operation]) -> Exception | None:
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


# below so many bytes compression costs more than it saves
_SMALL = 400
_ZLIB = b"x"


def _pack(value: Any) -> bytes:
    """Compact JSON, compressed where that pays; JSON never begins as a zlib stream does."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return text if len(text) < _SMALL else zlib.compress(text)


def _unpack(blob: bytes) -> Any:
    text = zlib.decompress(blob) if blob.startswith(_ZLIB) else blob
    return json.loads(text.decode("utf-8", "surrogatepass"))
