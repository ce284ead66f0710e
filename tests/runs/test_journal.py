from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from harness.clients.ledger import Amount, Attempt
from harness.clients.logprobs import RawLogprobs
from harness.clients.protocol import Reply
from harness.clients.purpose import Purpose
from harness.clients.wire import Wire
from harness.errors import RunError
from harness.runs.journal import Journal
from harness.runs.journal_rows import TaskRecord, Unit
from harness.runs.schema import SCHEMA
from harness.values import TokenLogprob, Usage, digest

pytestmark = pytest.mark.anyio

REPLY = Reply(
    'a "quoted" \ud83d half and \x00',
    "length",
    Usage(input=5, cache_read=3, output=2, requests=1, cost=0.25),
    (TokenLogprob(" a", -0.5, ((" a", -0.5), ("b", float("-inf")))),),
    "m-2026",
    "req_1",
)
WIRE = Wire.of({"messages": [{"role": "user", "content": "née \ud800"}], "seed": 2**62}, "http://x/v1", "/chat")


def _key(*parts: str | int) -> str:
    return digest(list(parts))


def _unit(number: int = 0, **changes: object) -> Unit:
    unit = Unit(
        _key("unit", number),
        _key("arm"),
        number,
        "ok",
        {"text": "naïve \udc80", "rule": None, "deep": [1.5, None, {"a": True}]},
        b"\x00\x01",
        (_key("r", 1)[:24], _key("r", 2)[:24]),
    )
    return replace(unit, **changes)  # type: ignore[arg-type] - test data


async def test_a_unit_comes_back_as_it_went(tmp_path: Path) -> None:
    units = [_unit(1), _unit(2, verdicts=None, replies=(), status="refused", pending=True)]
    async with Journal(tmp_path / "j") as journal:
        for unit in units:
            assert journal.unit(unit.key) is None
            await journal.finish(unit)
    with closing(sqlite3.connect(tmp_path / "j")) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    again = Journal(tmp_path / "j")
    assert [again.unit(unit.key) for unit in units] == units
    assert list(again.units(_key("arm"))) == units
    assert list(again.units(_key("another arm"))) == []


async def test_a_reply_comes_back_as_it_came_with_its_wire(tmp_path: Path) -> None:
    key = _key("request")
    async with Journal(tmp_path / "j") as journal:
        assert journal.get(key) is None
        await journal.keep(key, WIRE, REPLY)
        assert journal.get(key) == REPLY
    again = Journal(tmp_path / "j")
    stored = again.reply(key)
    assert stored is not None
    assert (stored.reply, stored.wire) == (REPLY, WIRE.data())
    assert [found.key for found in again.replies()] == [key]


async def test_the_first_reply_of_a_request_stays(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        await journal.keep(_key(1), WIRE, REPLY)
        await journal.keep(_key(1), WIRE, replace(REPLY, text="other"))
        assert journal.get(_key(1)) == REPLY


def _attempt(number: int, dollars: float | None = 0.5) -> Attempt:
    about = Purpose("score", _key("arm"), number)
    return Attempt(f"{number:032x}", _key("request", number), "openai/m", about, Amount(1000, dollars))


async def test_an_attempt_counts_in_full_until_it_is_settled(tmp_path: Path) -> None:
    usage = Usage(input=5, cache_read=3, cache_write=1, output=2, reasoning=1, requests=1)
    async with Journal(tmp_path / "j") as journal:
        for number in range(4):
            await journal.reserve(_attempt(number))
        assert journal.spent() == Amount(4000, 2.0)
        journal.settle(_attempt(0), "ok", Amount(11, 0.25), usage, 1.5)
        journal.settle(_attempt(1), "rate_limited", Amount(), None, 0.5)
        journal.settle(_attempt(2), "timed_out", Amount(1000, 0.5), None, 60.0)
    again = Journal(tmp_path / "j")
    assert again.spent() == Amount(2011, 1.25)
    found = {attempt.latent: attempt for attempt in again.attempts()}
    assert [found[number].outcome for number in range(4)] == ["ok", "rate_limited", "timed_out", None]
    first = found[0]
    assert first.request == _key("request", 0)[:24]
    assert (first.stage, first.arm, first.model) == ("score", _key("arm")[:24], "openai/m")
    assert (first.input, first.cache_read, first.cache_write, first.output, first.reasoning) == (5, 3, 1, 2, 1)
    assert (first.tokens, first.dollars, first.seconds) == (11, 0.25, 1.5)
    assert found[3].input is None


async def test_attempts_without_a_price_count_no_dollars(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        assert journal.spent() == Amount(0, 0.0)
        await journal.reserve(_attempt(0, None))
        await journal.reserve(_attempt(1))
        assert journal.spent() == Amount(2000, 0.5)


async def test_logprobs_as_received_are_kept_as_they_are(tmp_path: Path) -> None:
    raw = b'{"content": [{"token": "1", "logprob": -0.5, "bytes": [49], "top_logprobs": []}]}'
    reply = replace(REPLY, logprobs=RawLogprobs(raw))
    async with Journal(tmp_path / "j") as journal:
        await journal.keep(_key(1), WIRE, reply)
        kept = journal.get(_key(1))
    assert kept is not None
    assert isinstance(kept.logprobs, RawLogprobs)
    assert kept.logprobs.raw == raw
    assert kept.logprobs == (TokenLogprob("1", -0.5),)


def test_a_journal_of_the_first_schema_is_brought_up_to_date_beside_a_copy(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as old:
        old.executescript(
            """
            CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE replies (key BLOB PRIMARY KEY, wire BLOB NOT NULL, reply BLOB NOT NULL, created REAL NOT NULL);
            CREATE TABLE intents (key BLOB PRIMARY KEY, attempts INTEGER NOT NULL, created REAL NOT NULL) WITHOUT ROWID;
            CREATE TABLE units (
                key BLOB PRIMARY KEY, arm BLOB NOT NULL, latent INTEGER NOT NULL, status TEXT NOT NULL,
                pending INTEGER NOT NULL, result BLOB NOT NULL, verdicts BLOB, replies BLOB NOT NULL,
                created REAL NOT NULL
            );
            CREATE TABLE arms (digest BLOB PRIMARY KEY, description TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE tasks (number INTEGER PRIMARY KEY, digest TEXT, record TEXT, created REAL);
            INSERT INTO meta VALUES ('schema', '1');
            """
        )
        key, reply = (
            bytes.fromhex(_key("r", 1)),
            zlib.compress(json.dumps({"text": "old " * 200, "finish": "stop"}).encode()),
        )
        old.execute("INSERT INTO replies VALUES (?, ?, ?, 1.0)", [key, b'{"body": {}}', reply])
        old.execute("INSERT INTO intents VALUES (?, 2, 1.0)", [bytes.fromhex(_key("r", 2))])
        old.commit()
    journal = Journal(tmp_path / "journal.sqlite")
    stored = journal.reply(_key("r", 1))
    assert stored is not None
    assert stored.reply.text.startswith("old old")
    assert [attempt.outcome for attempt in journal.attempts()] == [None]
    with closing(sqlite3.connect(tmp_path / "journal.schema-1.sqlite")) as copy:
        assert copy.execute("SELECT count(*) FROM intents").fetchone() == (1,)
    assert len(list(Journal(tmp_path / "journal.sqlite").replies())) == 1


async def test_a_journal_of_the_second_schema_gets_the_tables_of_batches(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with Journal(path) as journal:
        await journal.finish(_unit())
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript("DROP TABLE batches; DROP TABLE batched; UPDATE meta SET value = '2';")
    journal = Journal(path)
    assert journal.unit(_unit().key) == _unit()
    assert list(journal.rows("SELECT * FROM batched")) == list(journal.rows("SELECT * FROM batches")) == []
    assert (tmp_path / "journal.schema-2.sqlite").is_file()


async def test_a_unit_done_again_replaces_the_old_one(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        await journal.finish(_unit(status="provider_error", pending=True))
        await journal.finish(_unit())
        assert journal.unit(_unit().key) == _unit()
        assert len(list(journal.units(_unit().arm))) == 1


async def test_forgotten_replies_are_gone_and_no_others(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        for number in range(3):
            await journal.keep(_key(number), WIRE, REPLY)
        await journal.forget([_key(0), _key(2), _key("never there")])
        await journal.forget([])
        assert [journal.get(_key(number)) for number in range(3)] == [None, REPLY, None]


async def test_units_of_an_arm_come_by_latent(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal, anyio.create_task_group() as group:
        for number in (5, 1, 3):
            group.start_soon(journal.finish, _unit(number))
    found = Journal(tmp_path / "j").units(_unit().arm)
    assert [unit.latent for unit in found] == [1, 3, 5]


async def test_what_is_written_at_once_is_committed_together(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        async with anyio.create_task_group() as group:
            for number in range(400):
                group.start_soon(journal.finish, _unit(number))
        assert journal.commits < 100
        # a second connection sees them: they are committed, not only queued
        with closing(sqlite3.connect(tmp_path / "j")) as plain:
            assert plain.execute("SELECT count(*) FROM units").fetchone() == (400,)


async def test_writes_are_applied_in_the_order_they_were_asked_for(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(journal.finish, _unit(0, latent=number))
        found = journal.unit(_unit().key)
        assert found is not None
        assert found.latent == 199


async def test_nothing_counts_up_by_itself_so_journals_merge(tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 2)):
        async with Journal(tmp_path / name) as journal:
            await journal.finish(_unit(number))
            await journal.finish(_unit(0))
            await journal.keep(_key(number), WIRE, REPLY)
    with closing(sqlite3.connect(tmp_path / "a")) as plain:
        schema = " ".join(row[0] or "" for row in plain.execute("SELECT sql FROM sqlite_master"))
        assert "AUTOINCREMENT" not in schema.upper()
        plain.execute("ATTACH ? AS other", [str(tmp_path / "b")])
        for table in ("units", "replies"):
            plain.execute(f"INSERT OR IGNORE INTO {table} SELECT * FROM other.{table}")
        plain.commit()
    merged = Journal(tmp_path / "a")
    assert [unit.latent for unit in merged.units(_unit().arm)] == [0, 1, 2]
    assert len(list(merged.replies())) == 2


async def test_tasks_and_arms_come_back(tmp_path: Path) -> None:
    first, second = TaskRecord(1, "x", {"task": {"name": "é"}}), TaskRecord(2, "y", {"task": {}})
    async with Journal(tmp_path / "j") as journal:
        await journal.begin(first, {_key("arm"): {"scorer": "detection"}})
        await journal.begin(second, {})
        await journal.begin(replace(second, record={"task": {"name": "z"}}), {})
    again = Journal(tmp_path / "j")
    assert again.tasks() == [first, replace(second, record={"task": {"name": "z"}})]
    assert again.arms() == {_key("arm"): {"scorer": "detection"}}


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    Journal(tmp_path / "j")
    with closing(sqlite3.connect(tmp_path / "j")) as plain:
        plain.execute("UPDATE meta SET value = ? WHERE key = 'schema'", [str(SCHEMA + 1)])
        plain.commit()
    with pytest.raises(RunError, match=rf"j: written by a newer version \(schema {SCHEMA + 1}, .* up to {SCHEMA}\)"):
        Journal(tmp_path / "j")


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"this is no database at all, but long enough to be read as one" * 20)
    with pytest.raises(RunError, match="j: this journal cannot be opened: file is not a database"):
        Journal(tmp_path / "j")


async def test_another_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "j")) as plain:
        plain.execute("CREATE TABLE songs (name TEXT)")
    with pytest.raises(RunError, match="j: this file is no journal of a run"):
        Journal(tmp_path / "j")
    with closing(sqlite3.connect(tmp_path / "j")) as plain:
        assert plain.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]


async def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    with pytest.raises(RunError, match="j: this journal cannot be opened"):
        Journal(tmp_path / "j")


async def test_a_write_that_fails_is_told_to_whoever_waits_and_the_journal_goes_on(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        with pytest.raises(RunError, match=r"the journal cannot be written: .*too large"):
            await journal.finish(_unit(latent=2**70))
        await journal.finish(_unit(1))
        assert journal.unit(_unit(1).key) == _unit(1)


async def test_a_full_disk_is_told_and_hangs_nothing(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        with _no_file_beyond(1 << 18), pytest.raises(RunError, match="j: the journal cannot be written"):
            await _fill(journal)
        await journal.finish(_unit(1000))
    assert Journal(tmp_path / "j").unit(_unit(1000).key) == _unit(1000)


async def _fill(journal: Journal) -> None:
    with anyio.fail_after(30):
        for number in range(100):
            await journal.finish(_unit(number, verdicts=os.urandom(1 << 14)))


class _no_file_beyond:  # noqa: N801 - reads as a condition
    """Inside, no file of this process grows beyond so many bytes, as on a full disk."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __enter__(self) -> None:
        self._handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._limits[1]))

    def __exit__(self, *error: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)
        signal.signal(signal.SIGXFSZ, self._handler)


KILLED = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_journal import REPLY, WIRE, Amount, _attempt, _key, _unit
from harness.runs.journal import Journal

async def main():
    async with Journal(Path({path!r})) as journal:
        for number in range(5):
            await journal.reserve(_attempt(number))
            await journal.keep(_key(number), WIRE, REPLY)
            journal.settle(_attempt(number), "ok", Amount(1, 0.0), None, 1.0)
            await journal.finish(_unit(number))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("point", "unsettled", "replies", "units"),
    [("intent-written:3", 1, 2, 2), ("reply-received:3", 1, 2, 2), ("reply-committed:3", 1, 3, 2),
     ("unit-committed:3", 0, 3, 3)],
)  # fmt: skip
def test_a_kill_leaves_what_was_committed(tmp_path: Path, point: str, unsettled: int, replies: int, units: int) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), path=str(tmp_path / "j"))
    environment = {**os.environ, "LATENT_HARNESS_FAILPOINT": point}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    journal = Journal(tmp_path / "j")
    assert [attempt.outcome for attempt in journal.attempts()].count(None) == unsettled
    assert len(list(journal.replies())) == replies
    assert len(list(journal.units(_unit().arm))) == units


async def test_reading_beside_a_writer_sees_whole_commits(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        reader = Journal(tmp_path / "j")
        await journal.keep(_key(1), WIRE, REPLY)
        assert reader.get(_key(1)) == REPLY


async def test_a_reply_is_found_and_forgotten_by_the_key_that_its_unit_keeps(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j") as journal:
        for number in range(20):
            await journal.keep(_key("r", number), WIRE, REPLY)
        await journal.finish(_unit(replies=(_key("r", 3), _key("r", 5))))
        unit = journal.unit(_unit().key)
        assert unit is not None
        found = [journal.reply(key) for key in unit.replies]
        assert [reply.key for reply in found if reply is not None] == [_key("r", 3), _key("r", 5)]
        await journal.forget(unit.replies)
        assert [journal.get(_key("r", number)) is None for number in range(20)] == [n in (3, 5) for n in range(20)]
