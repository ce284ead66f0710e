"""The journal of a run: what was asked and paid for, and what is done; one SQLite file, one writer thread.

Tables:
    replies   the exact wire request and sample -> the reply; committed before anybody parses it
    attempts  every sending of a request: for whom, how it ended and what it cost; written before it is sent
    units     the smallest pieces of work -> status and result
    arms      an arm's digest -> what it is, in words
    tasks     the tasks that ran here, in order, with the latents and arms that each reaches
    batches   batches of requests that were submitted, and how they ended (`harness.runs.batch_rows`)
    batched   requests that go by batch and have no result yet

Keys are hashes and nothing counts up by itself, so journals can be merged.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.clients.ledger import Amount, Attempt
from harness.clients.packing import pack, pack_json, unpack
from harness.clients.protocol import Reply
from harness.clients.serialise import pack_reply, unpack_reply
from harness.clients.wire import Wire
from harness.errors import RunError
from harness.runs.failpoints import passing
from harness.runs.rhythm import Rhythm
from harness.runs.schema import connected, unchanging
from harness.values import Status, Usage

__all__ = [
    "Journal",
    "Operation",
    "StoredAttempt",
    "StoredReply",
    "TaskRecord",
    "Unit",
    "keeping",
    "reserving",
    "settling",
]

# A group commit takes what is queued, up to this many operations.
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


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """One sending of a request.

    `request` is the beginning of the request's key, `arm` that of the arm's digest (empty: none), 24 hex digits each.
    `outcome` is `ok`, the kind of error, or None where it was never learned. `tokens` and `dollars` are what it counts
    with: an upper bound until, and unless, the provider tells. `seconds` is how long it took.
    """

    id: str
    request: str
    stage: str
    arm: str
    latent: int | None
    model: str
    outcome: str | None
    tokens: int
    dollars: float | None
    input: int | None
    cache_read: int | None
    cache_write: int | None
    output: int | None
    reasoning: int | None
    seconds: float | None
    created: float


# a statement of SQL with its values
Operation = tuple[str, Sequence[Any]]
_Queued = tuple[list[Operation], asyncio.Future[None] | None]


class Journal:
    """A run's journal, open for reading; inside its async context for writing, too.

    `beneath` is a copy of another journal, which nobody writes: units and replies that are not here are looked up
    there.
    """

    def __init__(self, path: Path, beneath: Path | None = None) -> None:
        self.path = path
        self._reading = connected(path)
        self._beneath = None if beneath is None else unchanging(beneath)
        self._queue: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.commits = 0

    async def __aenter__(self) -> Journal:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, args=[connected(self.path)], name="journal", daemon=True)
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
        if self._beneath is not None:
            self._beneath.close()

    # what clients.replies.Keeper asks for

    def get(self, key: str) -> Reply | None:
        """The remembered reply of a request, or None."""
        statement = "SELECT reply, logprobs FROM replies WHERE key = ?"
        row = self._found(statement, key)
        return None if row is None else unpack_reply(*row)

    async def keep(self, key: str, wire: Wire, reply: Reply) -> None:
        """Commit a reply; returns when it is on disk."""
        passing("reply-received")
        await self.commit([keeping(key, pack_json(wire.json()), reply)])
        passing("reply-committed")

    # what clients.ledger.Ledger asks for

    async def reserve(self, attempt: Attempt) -> None:
        """Commit that an attempt is about to be made."""
        await self.commit([reserving(attempt)])
        passing("intent-written")

    def settle(self, attempt: Attempt, outcome: str, charged: Amount, usage: Usage | None, seconds: float) -> None:
        """Note how an attempt ended; committed with what is committed next, at the latest when the journal closes."""
        self._queue.put(([settling(attempt.id, outcome, charged, usage, seconds)], None))

    def spent(self) -> Amount:
        """What all attempts so far count with: tokens and dollars, those of unknown outcome in full.

        `dollars` holds those of attempts with a known price.
        """
        tokens, dollars = self._reading.execute("SELECT SUM(tokens), SUM(dollars) FROM attempts").fetchone()
        return Amount(tokens or 0, dollars or 0.0)

    def attempts(self) -> Iterator[StoredAttempt]:
        """Every attempt, the oldest first."""
        for row in self._reading.execute(_ATTEMPT + " ORDER BY id"):
            yield StoredAttempt(row[0].hex(), row[1].hex(), row[2], row[3].hex(), *row[4:])

    # units

    def unit(self, key: str) -> Unit | None:
        """The unit of a key, or None where it is not done."""
        row = self._found(_UNIT + " WHERE key = ?", key)
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
            pack(unit.result),
            unit.verdicts,
            b"".join(bytes.fromhex(key)[:_PREFIX] for key in unit.replies),
            time.time(),
        ]
        await self.commit([(statement, row)])
        passing("unit-committed")

    def units(self, arm: str, latents: Sequence[int] | None = None) -> Iterator[Unit]:
        """All units of an arm, by latent; or, in the order of these, those of some latents."""
        if latents is None:
            cursor = self._reading.execute(_UNIT + " WHERE arm = ? ORDER BY latent", [bytes.fromhex(arm)])
            return (_unit(row) for row in cursor)
        found = (
            self._reading.execute(_UNIT + " WHERE arm = ? AND latent = ?", [bytes.fromhex(arm), latent]).fetchall()
            for latent in latents
        )
        return (_unit(row) for rows in found for row in rows)

    def newest(self) -> tuple[int, str, float]:
        """What tells that units were written since: how many rows there were, and key and time of the last unit."""
        row = self._reading.execute("SELECT rowid, key, created FROM units ORDER BY rowid DESC LIMIT 1").fetchone()
        return (0, "", 0.0) if row is None else (row[0], row[1].hex(), row[2])

    def scan(self, many: int, arms: Sequence[str], *, whole: bool) -> Iterator[list[Any]]:
        """Every unit in the order of the file, `many` at a time: key, arm, latent, status, pending, result, verdicts.

        Result and verdicts are as they are packed; unless `whole` they are left out but for the results of these arms.
        Of what is beneath nothing is told. Reads by a connection of its own, in whichever thread.
        """
        asked = ", ".join(f"x'{bytes.fromhex(arm).hex()}'" for arm in arms)
        told = "result, verdicts" if whole else f"CASE WHEN arm IN ({asked}) THEN result END, NULL"
        with closing(connected(self.path)) as connection:
            cursor = connection.execute(f"SELECT key, arm, latent, status, pending, {told} FROM units NOT INDEXED")
            while rows := cursor.fetchmany(many):
                yield rows

    async def forget(self, keys: Sequence[str]) -> None:
        """Drop replies, by whole keys or a unit's, so that they are asked for again."""
        await self.commit([("DELETE FROM replies WHERE key BETWEEN ? AND ?", _range(key)) for key in keys])

    # replies

    def reply(self, key: str) -> StoredReply | None:
        """A reply with its wire request."""
        row = self._reading.execute(_REPLY + " WHERE key BETWEEN ? AND ?", _range(key)).fetchone()
        return None if row is None else _stored_reply(row)

    def replies(self) -> Iterator[StoredReply]:
        """All replies, in the order of their keys."""
        return (_stored_reply(row) for row in self._reading.execute(_REPLY + " ORDER BY key"))

    # tasks and arms

    def tasks(self) -> list[TaskRecord]:
        """The tasks that ran here, oldest first."""
        rows = self._reading.execute("SELECT number, digest, record FROM tasks ORDER BY number").fetchall()
        return [TaskRecord(number, digest, json.loads(record)) for number, digest, record in rows]

    async def begin(self, record: TaskRecord, arms: Mapping[str, Mapping[str, Any]]) -> None:
        """Commit the task that runs now, and its arms."""
        row = [record.number, record.digest, json.dumps(record.record), time.time()]
        operations: list[Operation] = [("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?)", row)]
        operations += [
            ("INSERT OR REPLACE INTO arms VALUES (?, ?)", [bytes.fromhex(digest), json.dumps(description)])
            for digest, description in arms.items()
        ]
        await self.commit(operations)

    def arms(self) -> dict[str, dict[str, Any]]:
        """Every arm that ran here: digest -> description."""
        rows = self._reading.execute("SELECT digest, description FROM arms")
        return {digest.hex(): json.loads(description) for digest, description in rows}

    # what goes by batch

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Sequence[Any]]:
        """What a SELECT finds."""
        return self._reading.execute(statement, values)

    def _found(self, statement: str, key: str) -> Sequence[Any] | None:
        """The row of a key, here or in the copy beneath."""
        row = self._reading.execute(statement, [bytes.fromhex(key)]).fetchone()
        if row is None and self._beneath is not None:
            row = self._beneath.execute(statement, [bytes.fromhex(key)]).fetchone()
        return row

    # the writer

    async def commit(self, operations: Sequence[Operation]) -> None:
        """Commit statements, all or none of them."""
        assert self._loop is not None
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((list(operations), done))
        await done

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
                    done.set_exception(RunError(f"{self.path}: the journal cannot be written: {error}"))

        assert self._loop is not None
        self._loop.call_soon_threadsafe(resolve)


# bytes of a reply's key that a unit keeps: among 2 ** 40 replies two share these with a chance of 2 ** -17
_PREFIX = 12
_KEY = 32

_ATTEMPT = (
    "SELECT id, request, stage, arm, latent, model, outcome, tokens, dollars, input, cache_read, cache_write, output, "
    "reasoning, seconds, created FROM attempts"
)
_RESERVE = (
    "INSERT INTO attempts (id, request, stage, arm, latent, model, tokens, dollars, created) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SETTLE = (
    "UPDATE attempts SET outcome = ?, tokens = ?, dollars = ?, input = ?, cache_read = ?, cache_write = ?, "
    "output = ?, reasoning = ?, seconds = ? WHERE id = ?"
)
_REPLY = "SELECT key, wire, reply, logprobs FROM replies"
_UNIT = "SELECT key, arm, latent, status, pending, result, verdicts, replies FROM units"


def keeping(key: str, wire: bytes, reply: Reply) -> Operation:
    """What keeps a reply, with its packed wire."""
    blob, logprobs = pack_reply(reply)
    row = [bytes.fromhex(key), wire, blob, time.time(), logprobs]
    return "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)", row


def reserving(attempt: Attempt) -> Operation:
    """What writes down that an attempt is about to be made."""
    about, reserved = attempt.purpose, attempt.reserved
    # of an arm's digest the beginning: a row is written for every request
    arm = bytes.fromhex(about.arm)[:_PREFIX]
    request = bytes.fromhex(attempt.request)[:_PREFIX]
    row = [bytes.fromhex(attempt.id), request, about.stage, arm, about.latent, attempt.model, reserved.tokens]
    return _RESERVE, [*row, reserved.dollars, time.time()]


def settling(attempt: str, outcome: str, charged: Amount, usage: Usage | None, seconds: float | None) -> Operation:
    """What writes down how an attempt ended, by its id."""
    parts = [None] * 5
    if usage is not None:
        parts = [usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning]
    return _SETTLE, [outcome, charged.tokens, charged.dollars, *parts, seconds, bytes.fromhex(attempt)]


def _range(key: str) -> tuple[bytes, bytes]:
    """The first and last key that begin as this one does."""
    start = bytes.fromhex(key)
    return start.ljust(_KEY, b"\x00"), start.ljust(_KEY, b"\xff")


def _stored_reply(row: Sequence[Any]) -> StoredReply:
    key, wire, reply, logprobs = row
    return StoredReply(key.hex(), unpack(wire), unpack_reply(reply, logprobs))


def _unit(row: Sequence[Any]) -> Unit:
    key, arm, latent, status, pending, result, verdicts, replies = row
    keys = tuple(replies[at : at + _PREFIX].hex() for at in range(0, len(replies), _PREFIX))
    return Unit(key.hex(), arm.hex(), latent, status, unpack(result), verdicts, keys, bool(pending))


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
