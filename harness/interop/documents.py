"""JSON documents of a file, whole or one a line, gzipped or not; what is wrong in one is told with its place."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import FormatError

__all__ = ["decoded", "documents", "keys_of"]

_GZIP = b"\x1f\x8b"


def documents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each JSON document of a file with the words that name it: one a line if the first line is a whole one.

    Raises:
        FormatError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP
        with gzip.open(path) if zipped else path.open("rb") as file:
            first = file.readline()
            if keys_of(first) is None:
                yield str(path), first + file.read()
                return
            following = file.readline()
            yield f"{path}, line 1" if following else str(path), first
            number = 2
            while following:
                if following.strip():
                    yield f"{path}, line {number}", following
                number, following = number + 1, file.readline()
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"{path}: this file cannot be read: {error}") from error


def keys_of(data: bytes) -> frozenset[str] | None:
    """The keys of a JSON object, or of the first one in a JSON array; None where it is neither."""
    raw = data.lstrip()
    try:
        if raw[:1] == b"[":
            items = msgspec.json.decode(raw, type=list[msgspec.Raw])
            raw = bytes(items[0]) if items else b"{}"
        return frozenset(msgspec.json.decode(raw, type=dict[str, msgspec.Raw]))
    except msgspec.MsgspecError:
        return _lenient(raw)


def decoded(data: bytes, kind: Any, where: str) -> Any:
    """A document as a value of a type, which may be a union.

    Raises:
        FormatError: it is no JSON, or it is not of that type; the message tells where.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise FormatError(f"{where}: {_told(error)}") from error
    except msgspec.DecodeError as error:
        try:
            # NaN is no JSON, but Python writes it: read so, its place can be told
            return msgspec.convert(json.loads(data), type=kind)
        except msgspec.ValidationError as wrong:
            raise FormatError(f"{where}: {_told(wrong)}") from wrong
        except ValueError:
            raise FormatError(f"{where}: this is no JSON, or the file is cut short: {error}") from error


def _lenient(raw: bytes) -> frozenset[str] | None:
    if not re.search(rb"\b(NaN|Infinity)\b", raw):
        return None
    try:
        found: Any = json.loads(raw)
    except ValueError:
        return None
    found = found[0] if isinstance(found, list) and found else found
    return frozenset(found) if isinstance(found, dict) else None


def _told(error: msgspec.ValidationError) -> str:
    """`Expected `float`, got `null` - at `$.values[3]`` as a clause."""
    text, _, place = str(error).partition(" - at ")
    text = text[:1].lower() + text[1:].replace("`", "")
    return f"{place.strip('`').removeprefix('$').removeprefix('.')}: {text}" if place else text
