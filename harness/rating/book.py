"""Where ratings are kept: an SQLite file in the run's directory, in which each answer is committed before the next."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.errors import RunError
from harness.rating.items import Item
from harness.runs.schema import SelfClosing

__all__ = ["BOOK", "Answer", "Asked", "Book"]

BOOK: Final = "ratings.sqlite"
SCHEMA: Final = 1

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, coder TEXT NOT NULL, latent INTEGER NOT NULL, text TEXT NOT NULL,
    arms TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE answers (
    rater TEXT NOT NULL, item TEXT NOT NULL, rating INTEGER, text TEXT, number INTEGER NOT NULL, created REAL NOT NULL,
    PRIMARY KEY (rater, item)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """An item that somebody was asked, with the arms whose words it shows: `(explainer, control)`."""

    id: str
    kind: str
    coder: str
    latent: int
    text: str
    arms: tuple[tuple[str | None, str | None], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rater said: a `rating`, 1 to 4, or a `text`; both are None where the item was skipped."""

    rater: str
    item: str
    rating: int | None
    text: str | None
    created: float


class Book:
    """The ratings of a run; safe to use from several threads and from several processes.

    Raises:
        RunError: the file is no book of ratings, or a newer version's.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / BOOK
        self._lock = threading.Lock()
        try:
            self._file = sqlite3.connect(
                self.path, isolation_level=None, timeout=30, check_same_thread=False, factory=SelfClosing
            )
        except sqlite3.Error as error:
            raise RunError(f"{self.path}: this file is no book of ratings: {error}") from error
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        try:
            # an answer outlives a power cut: nobody says it twice
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = FULL")
            if not self._file.execute("SELECT name FROM sqlite_master").fetchone():
                self._file.executescript(
                    f"BEGIN; {_TABLES} INSERT INTO meta VALUES ('schema', '{SCHEMA}'), "
                    f"('token', '{secrets.token_urlsafe(24)}'); COMMIT;"
                )
            found = int(self._meta("schema"))
        except (sqlite3.Error, TypeError, ValueError) as error:
            raise RunError(f"{self.path}: this file is no book of ratings: {error}") from error
        if found > SCHEMA:
            raise RunError(f"{self.path}: written by a newer version (schema {found}, this version reads {SCHEMA})")

    @staticmethod
    def there(directory: Path) -> bool:
        """Whether a run has been rated."""
        return (directory / BOOK).is_file()

    @property
    def token(self) -> str:
        """The secret in the page's address, the same whenever it is served again."""
        return self._meta("token")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def know(self, items: Iterable[Item]) -> None:
        """Note what items are, so that what was said of them can be read without drawing them again."""
        known = self.items()
        rows = []
        for item in items:
            # another round may have had fewer arms, and an explainer may have joined with words that were there
            arms = dict.fromkeys([*(known[item.id].arms if item.id in known else ()), *item.arms])
            rows.append((item.id, item.kind, item.coder, item.latent, item.text, json.dumps(list(arms))))
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._file.execute("COMMIT")

    def answer(self, rater: str, item: str, *, rating: int | None = None, text: str | None = None) -> None:
        """Commit what a rater says of an item; said again it counts once, as it was said last."""
        with self._lock:
            self._file.execute(
                "INSERT INTO answers SELECT ?, ?, ?, ?, 1 + COALESCE(MAX(number), 0), ? FROM answers WHERE rater = ? "
                "ON CONFLICT (rater, item) DO UPDATE SET rating = excluded.rating, text = excluded.text, "
                "created = excluded.created",
                [rater, item, rating, text, time.time(), rater],
            )

    def undo(self, rater: str, among: Iterable[str]) -> None:
        """Take back what a rater said last of some items, if anything."""
        wanted = set(among)
        with self._lock:
            rows = self._file.execute("SELECT item FROM answers WHERE rater = ? ORDER BY number DESC", [rater])
            last = next((item for (item,) in rows if item in wanted), None)
            if last is not None:
                self._file.execute("DELETE FROM answers WHERE rater = ? AND item = ?", [rater, last])

    def answered(self, rater: str) -> set[str]:
        """The items that a rater has answered or skipped."""
        with self._lock:
            return {item for (item,) in self._file.execute("SELECT item FROM answers WHERE rater = ?", [rater])}

    def answers(self) -> list[Answer]:
        """Everything that was said, rater by rater in the order in which it was said."""
        with self._lock:
            rows = self._file.execute("SELECT rater, item, rating, text, created FROM answers ORDER BY rater, number")
            return [Answer(*row) for row in rows]

    def items(self) -> dict[str, Asked]:
        """Every item that is known, by its id."""
        with self._lock:
            rows = self._file.execute("SELECT id, kind, coder, latent, text, arms FROM items").fetchall()
        return {
            name: Asked(name, kind, coder, latent, text, _arms(arms)) for name, kind, coder, latent, text, arms in rows
        }

    def _meta(self, key: str) -> str:
        with self._lock:
            return self._file.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()[0]


def _arms(text: str) -> tuple[tuple[str | None, str | None], ...]:
    found: list[Any] = json.loads(text)
    return tuple((explainer, control) for explainer, control in found)
