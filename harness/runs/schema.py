"""The journal's file: its tables, how it is opened, and how those of earlier versions are brought up to date."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from harness.errors import RunError

__all__ = ["SCHEMA", "SelfClosing", "connected", "unchanging"]

SCHEMA = 3

_ATTEMPTS = """
CREATE TABLE attempts (
    id BLOB PRIMARY KEY, request BLOB NOT NULL, stage TEXT NOT NULL, arm BLOB NOT NULL, latent INTEGER,
    model TEXT NOT NULL, outcome TEXT, tokens INTEGER NOT NULL, dollars REAL, input INTEGER, cache_read INTEGER,
    cache_write INTEGER, output INTEGER, reasoning INTEGER, seconds REAL, created REAL NOT NULL
) WITHOUT ROWID;
"""
_BATCHES = """
CREATE TABLE batches (
    id BLOB PRIMARY KEY, model TEXT NOT NULL, settings TEXT NOT NULL, remote TEXT, state TEXT NOT NULL,
    requests INTEGER NOT NULL, replies INTEGER NOT NULL, told TEXT NOT NULL, created REAL NOT NULL, seen REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE batched (
    attempt BLOB PRIMARY KEY, request BLOB NOT NULL, model TEXT NOT NULL, batch BLOB, wire BLOB NOT NULL,
    shape TEXT NOT NULL
);
CREATE INDEX batched_of_batch ON batched (batch);
"""
_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE replies (
    key BLOB PRIMARY KEY, wire BLOB NOT NULL, reply BLOB NOT NULL, created REAL NOT NULL, logprobs BLOB
);
{_ATTEMPTS}
CREATE TABLE arms (digest BLOB PRIMARY KEY, description TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tasks (number INTEGER PRIMARY KEY, digest TEXT NOT NULL, record TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE units (
    key BLOB PRIMARY KEY, arm BLOB NOT NULL, latent INTEGER NOT NULL, status TEXT NOT NULL, pending INTEGER NOT NULL,
    result BLOB NOT NULL, verdicts BLOB, replies BLOB NOT NULL, created REAL NOT NULL
);
CREATE INDEX units_of_arm ON units (arm, latent);
{_BATCHES}
"""
# Requests are known by other keys since, so what was in flight is asked again; replies and units stay as they are.
_FROM_1 = f"""
ALTER TABLE replies ADD COLUMN logprobs BLOB;
{_ATTEMPTS}
INSERT INTO attempts SELECT substr(key, 1, 16), substr(key, 1, 12), '', x'', NULL, '', NULL, 0, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, created FROM intents;
DROP TABLE intents;
"""
# what brings a journal of each version to the next
_STEPS = {1: _FROM_1, 2: _BATCHES}


class SelfClosing(sqlite3.Connection):
    """Closed as soon as nobody holds it: whoever reads a run seldom closes it, which Python 3.13 warns of."""

    def __del__(self) -> None:
        # one that could not be opened cannot be closed
        with suppress(sqlite3.ProgrammingError):
            self.close()


def connected(path: Path) -> sqlite3.Connection:
    """A connection to a journal of this version; a new file is made, one of an earlier version is brought up to date.

    That is done after a copy has been put beside it, named after its version: `journal.schema-1.sqlite`.

    Raises:
        RunError: the file is no journal, was written by a newer version, or cannot be opened.
    """
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=30, check_same_thread=False, factory=SelfClosing
        )
    except sqlite3.Error as error:
        raise RunError(f"{path}: this journal cannot be opened: {error}") from error
    try:
        _set_up(connection, path)
    except BaseException:
        connection.close()  # the error holds it
        raise
    return connection


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    try:
        # a score is some 2.5 kB: of pages of SQLite's usual 4 kB each would waste a third (of new files only)
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a committed reply was paid for and has to outlive a power cut
        connection.execute("PRAGMA synchronous = FULL")
        if not connection.execute("SELECT name FROM sqlite_master").fetchone():
            connection.executescript(f"BEGIN; {_TABLES} INSERT INTO meta VALUES ('schema', '{SCHEMA}'); COMMIT;")
    except sqlite3.Error as error:
        raise RunError(f"{path}: this journal cannot be opened: {error}") from error
    found = _version(connection, path)
    if found > SCHEMA:
        raise RunError(f"{path}: written by a newer version (schema {found}, this version reads up to {SCHEMA})")
    if found < SCHEMA:
        with closing(sqlite3.connect(path.with_suffix(f".schema-{found}.sqlite"))) as copy:
            connection.backup(copy)
        steps = "".join(_STEPS[version] for version in range(found, SCHEMA))
        connection.executescript(f"BEGIN; {steps} UPDATE meta SET value = '{SCHEMA}' WHERE key = 'schema'; COMMIT;")


def unchanging(path: Path) -> sqlite3.Connection:
    """A connection for reading a journal of this version that nobody writes; safe also over a network.

    Raises:
        RunError: it cannot be opened.
    """
    try:
        uri = f"{path.resolve().as_uri()}?immutable=1"
        return sqlite3.connect(uri, uri=True, check_same_thread=False, factory=SelfClosing)
    except sqlite3.Error as error:
        raise RunError(f"{path}: this journal cannot be opened: {error}") from error


def _version(connection: sqlite3.Connection, path: Path) -> int:
    try:
        return int(connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise RunError(f"{path}: this file is no journal of a run") from error
