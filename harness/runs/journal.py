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

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.clients.ledger import Amount, Attempt
from harness.clients.packing import pack_json
from harness.clients.protocol import Reply
from harness.clients.serialise import unpack_reply
from harness.clients.wire import Wire
from harness.runs.failpoints import passing
from harness.runs.journal_rows import (
    ATTEMPTS,
    REPLIES,
    UNITS,
    Operation,
    StoredAttempt,
    StoredReply,
    TaskRecord,
    Unit,
    beginning,
    finishing,
    keeping,
    key_range,
    reserving,
    settling,
)
from harness.runs.journal_writer import JournalWriter
from harness.runs.schema import connected, unchanging
from harness.values import Usage

__all__ = ["Journal"]


class Journal:
    """A run's journal, open for reading; inside its async context for writing, too.

    `beneath` is a copy of another journal, which nobody writes: units and replies that are not here are looked up
    there.
    """

    def __init__(self, path: Path, beneath: Path | None = None) -> None:
        self.path = path
        self._reading = connected(path)
        self._beneath = None if beneath is None else unchanging(beneath)
        self._writer: JournalWriter | None = None

    async def __aenter__(self) -> Journal:
        self._writer = JournalWriter(self.path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writing().close()
        self.close()

    def close(self) -> None:
        """Close a journal that was opened for reading alone."""
        self._reading.close()
        if self._beneath is not None:
            self._beneath.close()

    @property
    def commits(self) -> int:
        """How many transactions were written."""
        return 0 if self._writer is None else self._writer.commits

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
        self._writing().add([settling(attempt.id, outcome, charged, usage, seconds)])

    def spent(self) -> Amount:
        """What all attempts so far count with: tokens and dollars, those of unknown outcome in full.

        `dollars` holds those of attempts with a known price.
        """
        tokens, dollars = self._reading.execute("SELECT SUM(tokens), SUM(dollars) FROM attempts").fetchone()
        return Amount(tokens or 0, dollars or 0.0)

    def attempts(self) -> Iterator[StoredAttempt]:
        """Every attempt, the oldest first."""
        return map(StoredAttempt.read, self._reading.execute(ATTEMPTS + " ORDER BY id"))

    # units

    def unit(self, key: str) -> Unit | None:
        """The unit of a key, or None where it is not done."""
        row = self._found(UNITS + " WHERE key = ?", key)
        return None if row is None else Unit.read(row)

    async def finish(self, unit: Unit) -> None:
        """Commit a unit; one of the same key is replaced."""
        await self.commit([finishing(unit)])
        passing("unit-committed")

    def units(self, arm: str, latents: Sequence[int] | None = None) -> Iterator[Unit]:
        """All units of an arm, by latent; or, in the order of these, those of some latents."""
        if latents is None:
            cursor = self._reading.execute(UNITS + " WHERE arm = ? ORDER BY latent", [bytes.fromhex(arm)])
            return (Unit.read(row) for row in cursor)
        found = (
            self._reading.execute(UNITS + " WHERE arm = ? AND latent = ?", [bytes.fromhex(arm), latent]).fetchall()
            for latent in latents
        )
        return (Unit.read(row) for rows in found for row in rows)

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
        await self.commit([("DELETE FROM replies WHERE key BETWEEN ? AND ?", key_range(key)) for key in keys])

    # replies

    def reply(self, key: str) -> StoredReply | None:
        """A reply with its wire request."""
        row = self._reading.execute(REPLIES + " WHERE key BETWEEN ? AND ?", key_range(key)).fetchone()
        return None if row is None else StoredReply.read(row)

    def replies(self) -> Iterator[StoredReply]:
        """All replies, in the order of their keys."""
        return (StoredReply.read(row) for row in self._reading.execute(REPLIES + " ORDER BY key"))

    # tasks and arms

    def tasks(self) -> list[TaskRecord]:
        """The tasks that ran here, oldest first."""
        rows = self._reading.execute("SELECT number, digest, record FROM tasks ORDER BY number").fetchall()
        return [TaskRecord(number, digest, json.loads(record)) for number, digest, record in rows]

    async def begin(self, record: TaskRecord, arms: Mapping[str, Mapping[str, Any]]) -> None:
        """Commit the task that runs now, and its arms."""
        await self.commit(beginning(record, arms))

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

    async def commit(self, operations: Sequence[Operation]) -> None:
        """Commit statements, all or none of them."""
        await self._writing().commit(operations)

    def _writing(self) -> JournalWriter:
        assert self._writer is not None, "written outside its context"
        return self._writer
