"""The rows of a journal: what each is read as, and the statements that write them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.clients.ledger import Amount, Attempt
from harness.clients.packing import pack, unpack
from harness.clients.protocol import Reply
from harness.clients.serialise import pack_reply, unpack_reply
from harness.values import Status, Usage

__all__ = [
    "ATTEMPTS",
    "REPLIES",
    "UNITS",
    "Operation",
    "StoredAttempt",
    "StoredReply",
    "TaskRecord",
    "Unit",
    "beginning",
    "finishing",
    "keeping",
    "key_range",
    "reserving",
    "settling",
]

# a statement of SQL with its values
Operation = tuple[str, Sequence[Any]]

# what reads rows, see `read` of the classes
ATTEMPTS = (
    "SELECT id, request, stage, arm, latent, model, outcome, tokens, dollars, input, cache_read, cache_write, output, "
    "reasoning, seconds, created FROM attempts"
)
REPLIES = "SELECT key, wire, reply, logprobs FROM replies"
UNITS = "SELECT key, arm, latent, status, pending, result, verdicts, replies FROM units"

# bytes of a reply's key that a unit keeps: among 2 ** 40 replies two share these with a chance of 2 ** -17
_PREFIX = 12
_KEY = 32

_RESERVE = (
    "INSERT INTO attempts (id, request, stage, arm, latent, model, tokens, dollars, created) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SETTLE = (
    "UPDATE attempts SET outcome = ?, tokens = ?, dollars = ?, input = ?, cache_read = ?, cache_write = ?, "
    "output = ?, reasoning = ?, seconds = ? WHERE id = ?"
)


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

    @classmethod
    def read(cls, row: Sequence[Any]) -> Unit:
        """A row of `UNITS`."""
        key, arm, latent, status, pending, result, verdicts, replies = row
        keys = tuple(replies[at : at + _PREFIX].hex() for at in range(0, len(replies), _PREFIX))
        return cls(key.hex(), arm.hex(), latent, status, unpack(result), verdicts, keys, bool(pending))


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A reply with the wire request that it answers."""

    key: str
    wire: Mapping[str, Any]
    reply: Reply

    @classmethod
    def read(cls, row: Sequence[Any]) -> StoredReply:
        """A row of `REPLIES`."""
        key, wire, reply, logprobs = row
        return cls(key.hex(), unpack(wire), unpack_reply(reply, logprobs))


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

    @classmethod
    def read(cls, row: Sequence[Any]) -> StoredAttempt:
        """A row of `ATTEMPTS`."""
        return cls(row[0].hex(), row[1].hex(), row[2], row[3].hex(), *row[4:])


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


def key_range(key: str) -> tuple[bytes, bytes]:
    """The first and last key that begin as this one does."""
    start = bytes.fromhex(key)
    return start.ljust(_KEY, b"\x00"), start.ljust(_KEY, b"\xff")


def finishing(unit: Unit) -> Operation:
    """What writes a unit, in place of one of the same key."""
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
    return "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row


def beginning(record: TaskRecord, arms: Mapping[str, Mapping[str, Any]]) -> list[Operation]:
    """What writes down a task that runs, and its arms: digest -> description."""
    row = [record.number, record.digest, json.dumps(record.record), time.time()]
    operations: list[Operation] = [("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?)", row)]
    for digest, description in arms.items():
        values = [bytes.fromhex(digest), json.dumps(description)]
        operations.append(("INSERT OR REPLACE INTO arms VALUES (?, ?)", values))
    return operations
