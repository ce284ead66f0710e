"""What a journal knows of batches: requests that wait for one or are out, and the batches that were submitted."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from harness.clients.batches import pack_shape
from harness.clients.ledger import Amount, Attempt
from harness.clients.packing import pack_json, unpack_json
from harness.clients.protocol import Request
from harness.clients.wire import Wire
from harness.runs.failpoints import passing
from harness.runs.journal import Journal
from harness.runs.journal_rows import Operation, reserving

__all__ = ["OUT", "WAITING", "BatchRow", "BatchRows", "Noted", "State"]

# `unsure` whether the provider has it; `out`; `collected`; `refused` as a whole; `unsent` after all; and `forgotten`,
# because somebody wished so
State = Literal["unsure", "out", "collected", "refused", "unsent", "forgotten"]
OUT: tuple[State, ...] = ("unsure", "out")
# an attempt's outcome until its batch is collected
WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch: `id` is ours and `remote` the provider's; `settings` are those of its model in the task.

    `replies` of its `requests` are kept. `told` is what was last heard of it, at the Unix time `seen`.
    """

    id: str
    model: str
    settings: Mapping[str, Any]
    remote: str | None
    state: State
    requests: int
    replies: int
    told: str
    created: float
    seen: float

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.remote or "a batch that may have been submitted"


@dataclass(frozen=True, slots=True)
class Noted:
    """A request that is out: its attempt, its whole key, its wire as packed, and what it was charged until now."""

    attempt: str
    key: str
    wire: bytes
    shape: str
    bound: Amount
    created: float


class _Wired(msgspec.Struct):
    path: str
    body: msgspec.Raw


class BatchRows:
    """Reads and writes them; written only while the journal is open for writing."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    # requests

    def keys(self) -> set[str]:
        """The whole keys of requests that wait for a batch or are out."""
        return {key.hex() for (key,) in self._journal.rows("SELECT request FROM batched")}

    def bound(self, batch: str | None = None) -> Amount:
        """What the requests of a batch, or all, may cost at most; dollars of those with a known price."""
        where, values = ("WHERE b.batch = ?", [bytes.fromhex(batch)]) if batch else ("", [])
        statement = f"SELECT SUM(a.tokens), SUM(a.dollars) FROM batched b JOIN attempts a ON a.id = b.attempt {where}"
        tokens, dollars = next(iter(self._journal.rows(statement, values)))
        return Amount(tokens or 0, dollars)

    def noted(self, attempt: str, batch: str) -> Noted | None:
        """A request of a batch that is out; None where it has its result, or is none of the batch's."""
        try:
            values = [bytes.fromhex(attempt), bytes.fromhex(batch)]
        except ValueError:
            return None
        row = next(iter(self._journal.rows(_NOTED + " WHERE b.attempt = ? AND b.batch = ?", values)), None)
        return None if row is None else _noted(row)

    def left(self, batch: str) -> list[Noted]:
        """The requests of a batch that have no result."""
        return [_noted(row) for row in self._journal.rows(_NOTED + " WHERE b.batch = ?", [bytes.fromhex(batch)])]

    def unsent(self, model: str) -> Generator[tuple[str, str, str, bytes]]:
        """Attempt, key, path and body of each request that waits for a batch of a model, the oldest first."""
        statement = "SELECT attempt, request, wire FROM batched WHERE batch IS NULL AND model = ? ORDER BY attempt"
        for attempt, key, wire in self._journal.rows(statement, [model]):
            sent = msgspec.json.decode(unpack_json(wire), type=_Wired)
            yield attempt.hex(), key.hex(), sent.path, bytes(sent.body)

    def failures(self, model: str) -> Counter[str]:
        """How often each request of a model failed so far, by the beginning of its key."""
        statement = (
            "SELECT request, COUNT(*) FROM attempts WHERE model = ? AND outcome NOT IN ('ok', ?) GROUP BY request"
        )
        return Counter({key.hex(): number for key, number in self._journal.rows(statement, [model, WAITING])})

    async def note(self, attempt: Attempt, wire: Wire, request: Request) -> None:
        """Commit that a request waits for a batch, and what it may cost."""
        row = [bytes.fromhex(attempt.id), bytes.fromhex(attempt.request), attempt.model, pack_json(wire.json())]
        insert = "INSERT INTO batched (attempt, request, model, wire, shape) VALUES (?, ?, ?, ?, ?)"
        waits = "UPDATE attempts SET outcome = ? WHERE id = ?", [WAITING, row[0]]
        await self._journal.commit([reserving(attempt), waits, (insert, [*row, pack_shape(request)])])
        passing("batch-noted")

    async def drop_unsent(self) -> None:
        """Forget requests that wait for a batch: they were never sent."""
        await self._journal.commit(_dropped("batch IS NULL", []))

    # batches

    def batches(self, states: Sequence[State] = OUT) -> list[BatchRow]:
        """The batches of some states, the oldest first."""
        marks = ", ".join("?" * len(states))
        statement = f"SELECT {', '.join(_COLUMNS)} FROM batches WHERE state IN ({marks}) ORDER BY created, id"
        return [_batch(row) for row in self._journal.rows(statement, states)]

    async def write(self, row: BatchRow, last: str) -> None:
        """Commit a batch that is about to be submitted; its are the requests of its model up to the attempt `last`."""
        values = [bytes.fromhex(row.id), row.model, json.dumps(dict(row.settings)), row.remote, row.state]
        values += [row.requests, row.replies, row.told, row.created, row.seen]
        takes = "UPDATE batched SET batch = ? WHERE batch IS NULL AND model = ? AND attempt <= ?"
        insert = f"INSERT INTO batches ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(values))})"
        taken = [values[0], row.model, bytes.fromhex(last)]
        await self._journal.commit([(insert, values), (takes, taken)])
        passing("batch-written")

    async def sent(self, batch: str, remote: str) -> None:
        """Commit the provider's id of a batch."""
        values = [remote, time.time(), bytes.fromhex(batch)]
        await self._journal.commit([("UPDATE batches SET remote = ?, state = 'out', seen = ? WHERE id = ?", values)])
        passing("batch-committed")

    async def unsend(self, batch: str, told: str) -> None:
        """Commit that a batch was not submitted after all."""
        await self._journal.commit(
            [*_dropped("batch = ?", [bytes.fromhex(batch)]), self.ending(batch, "unsent", 0, told)]
        )

    async def refuse(self, batch: str, told: str) -> None:
        """Commit that a batch was refused as a whole: none of its requests cost anything."""
        own = [bytes.fromhex(batch)]
        free = "UPDATE attempts SET outcome = 'batch_refused', tokens = 0, dollars = 0.0 WHERE id IN "
        await self._journal.commit(
            [
                (free + "(SELECT attempt FROM batched WHERE batch = ?)", own),
                ("DELETE FROM batched WHERE batch = ?", own),
                self.ending(batch, "refused", 0, told),
            ]
        )

    async def forget(self, batch: str) -> None:
        """Commit that a batch is never collected: its requests are asked anew, and what they may cost stays charged."""
        own = [bytes.fromhex(batch)]
        await self._journal.commit(
            [
                ("UPDATE attempts SET outcome = NULL WHERE id IN (SELECT attempt FROM batched WHERE batch = ?)", own),
                ("DELETE FROM batched WHERE batch = ?", own),
                self.ending(batch, "forgotten", 0, "never collected"),
            ]
        )

    async def see(self, batch: str, told: str) -> None:
        """Commit what was heard of a batch that is out."""
        values = [told, time.time(), bytes.fromhex(batch)]
        await self._journal.commit([("UPDATE batches SET told = ?, seen = ? WHERE id = ?", values)])

    def done(self, attempt: str) -> Operation:
        """What says that a request is out no more."""
        return "DELETE FROM batched WHERE attempt = ?", [bytes.fromhex(attempt)]

    def ending(self, batch: str, state: State, replies: int, told: str) -> Operation:
        """What says that a batch is out no more; `replies` come to those that it has."""
        values = [state, replies, told, time.time(), bytes.fromhex(batch)]
        return "UPDATE batches SET state = ?, replies = replies + ?, told = ?, seen = ? WHERE id = ?", values

    def counting(self, batch: str, replies: int) -> Operation:
        """What adds to the number of a batch's replies."""
        return "UPDATE batches SET replies = replies + ? WHERE id = ?", [replies, bytes.fromhex(batch)]


_COLUMNS = ("id", "model", "settings", "remote", "state", "requests", "replies", "told", "created", "seen")
_NOTED = (
    "SELECT b.attempt, b.request, b.wire, b.shape, a.tokens, a.dollars, a.created "
    "FROM batched b JOIN attempts a ON a.id = b.attempt"
)


def _noted(row: Sequence[Any]) -> Noted:
    attempt, key, wire, shape, tokens, dollars, created = row
    return Noted(attempt.hex(), key.hex(), wire, shape, Amount(tokens, dollars), created)


def _batch(row: Sequence[Any]) -> BatchRow:
    batch, model, settings, *rest = row
    return BatchRow(batch.hex(), model, json.loads(settings), *rest)


def _dropped(where: str, values: list[Any]) -> list[Operation]:
    """What takes out requests that were not sent, and what they were to cost."""
    return [
        (f"DELETE FROM attempts WHERE id IN (SELECT attempt FROM batched WHERE {where})", values),
        (f"DELETE FROM batched WHERE {where}", values),
    ]
