"""Writing files of other projects: a folder that appears when it is complete, and JSON that every reader takes."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import UserError

__all__ = ["chunks", "free_file", "fresh", "json_text", "lines_zipped", "write_json", "write_lines"]

T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Items in parts of that size, the last one shorter; no more than a part is taken at once."""
    left = iter(items)
    while part := list(islice(left, size)):
        yield part


@contextmanager
def fresh(out: Path) -> Iterator[Path]:
    """Gives a folder to write into; afterwards it lies at `out`, or is gone if an error came.

    Raises:
        UserError: there is something at `out`.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: there is something already: delete it or choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    room = out.with_name(f".{out.name}.writing")
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
    try:
        yield room
        if out.is_dir():
            out.rmdir()
        room.rename(out)
    finally:
        shutil.rmtree(room, ignore_errors=True)


@contextmanager
def free_file(out: Path) -> Iterator[Path]:
    """Gives a file to write; afterwards it lies at `out`, or is gone if an error came.

    Raises:
        UserError: there is something at `out`.
    """
    if out.exists():
        raise UserError(f"--out {out}: there is something already: delete it or choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    room = out.with_name(f".{out.name}.writing")
    try:
        yield room
        room.rename(out)
    finally:
        room.unlink(missing_ok=True)


def json_text(value: Any) -> str:
    """A value as JSON on one line, in ASCII, so that no character parts a line or is refused; NaN is an error."""
    return json.dumps(value, allow_nan=False)


def write_json(path: Path, value: Any) -> Path:
    """Write one JSON document; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_text(value), encoding="ascii")
    return path


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a JSON object a line; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as file:
        for row in rows:
            file.write(json_text(row) + "\n")
    return path


@contextmanager
def lines_zipped(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Gives what writes an object a line, in gzip; the same rows always give the same bytes; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:

        def write(row: Mapping[str, Any]) -> None:
            file.write((json_text(row) + "\n").encode("ascii"))

        yield write
