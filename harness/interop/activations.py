"""Imports activations collected elsewhere: what a file or folder is, is told from its content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import FormatError
from harness.interop import delphi_cache, neuronpedia, saedashboard
from harness.interop.documents import decoded, documents, keys_of
from harness.interop.records import Record, write_records
from harness.store import Store

__all__ = ["import_activations"]

_KNOWN = (
    "known are SAEDashboard's feature batches, Neuronpedia's exported activations and its API's features, and delphi's "
    "activation caches"
)
_ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_READERS: tuple[tuple[str, frozenset[str], Callable[[bytes, str], Iterator[Record]]], ...] = (
    ("saedashboard", saedashboard.KEYS, saedashboard.records),
    ("neuronpedia", neuronpedia.LINE_KEYS, neuronpedia.lines),
    ("neuronpedia", neuronpedia.FEATURE_KEYS, neuronpedia.features),
)


def import_activations(
    source: Path,
    out: Path,
    *,
    tokenizer: str | None = None,
    tokens: Path | None = None,
    model: str | None = None,
    tell: Callable[[int, int], None] = lambda _done, _total: None,
) -> Store:
    """Make a store at `out` of activations in a file or folder.

    Args:
        source: records (a file or a folder of them) or a delphi cache (the folder of a run, of its `latents`, or of one
            hookpoint).
        out: the store's folder, which has to be free.
        tokenizer: for caches, which have token ids only: a `tokenizer.json`, or a folder that has one.
        tokens: for caches that were written without them: their token ids, `.npy` or `.safetensors`.
        model: for caches that do not name their model.
        tell: hears how many contexts of how many are done.

    Raises:
        FormatError: the source is of no known format, or broken.
        StoreError: there is something at `out`.
    """
    if not source.exists():
        raise FormatError(f"{source}: there is no such file or folder")
    if delphi_cache.recognised(source):
        return delphi_cache.import_cache(source, out, tokenizer=tokenizer, tokens=tokens, model=model, tell=tell)
    for given, flag in ((tokenizer, "--tokenizer"), (tokens, "--tokens"), (model, "--model")):
        if given is not None:
            raise FormatError(
                f"{flag} is for caches of token ids, and {source} is none: {_found(source)}; published records bring "
                "their token strings and their model's name"
            )
    kind, parts = _records_of(source)
    return write_records(parts, kind, out)


def _records_of(source: Path) -> tuple[str, Iterator[Record]]:
    files = _files(source)
    kinds = {file: kind for file in files if (kind := _kind(file, alone=file == source)) is not None}
    if not kinds:
        raise FormatError(f"{source} is of no known format: {_found(source)}; {_KNOWN}")
    names = sorted({_READERS[kind][0] for kind in kinds.values()})

    def every() -> Iterator[Record]:
        for file, kind in kinds.items():
            read = _READERS[kind][2]
            for where, data in documents(file):
                yield from read(data, where)

    return " and ".join(names), every()


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    # batch-2 before batch-10, wherever the import runs
    found = [path for path in source.rglob("*") if path.is_file() and path.name.endswith(_ENDINGS)]
    return sorted(found, key=lambda path: (len(path.name), path.as_posix()))


def _kind(file: Path, *, alone: bool) -> int | None:
    """Which of the readers reads a file, None for no one: it has all the keys that the reader needs.

    Among others a file that is no JSON is a mistake, and not one to pass over.
    """
    for where, data in documents(file):
        keys = keys_of(data)
        if keys is None and not alone:
            decoded(data, Any, where)
        return next((place for place, (_, needed, _) in enumerate(_READERS) if needed <= (keys or set())), None)
    return None


def _found(source: Path) -> str:
    """What is there, for a message."""
    if source.is_dir():
        names = sorted(path.name for path in source.iterdir())
        return "it has " + (", ".join(names[:6]) + (" and more" if len(names) > 6 else "") if names else "nothing")
    for _, data in documents(source):
        keys = keys_of(data)
        if keys is not None:
            return "it is JSON with the keys " + (", ".join(sorted(keys)[:8]) or "of nothing")
        break
    with source.open("rb") as file:
        return f"it begins with {file.read(16)!r}"
