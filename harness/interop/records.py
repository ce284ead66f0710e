"""Published records of latents (rows of tokens with one latent's values) as a store of selected contexts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import FormatError
from harness.interop.building import building, documents_between
from harness.interop.token_strings import PAD, TokenStrings
from harness.store import CoderFrame, ManifestFrame, Observed, Rows, Store, StoreWriter

__all__ = ["GRID", "Record", "write_records"]

# rows are filled up to a multiple of this, so that windows of every smaller power of two divide them
GRID = 32
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Record:
    """One row of one latent: token strings and the latent's value on each.

    `source` names the latent's coder, such as `0-res-jb`; `where` is how a message names the record; `dataset` the
    text's source where it is told.
    """

    model: str
    source: str
    latent: int
    tokens: Sequence[str]
    values: Sequence[float]
    where: str
    dataset: str = ""


@dataclass(slots=True)
class _Coder:
    """A coder's rows: for each latent, by context, where it fires and how strongly."""

    rows: dict[int, dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]]] = field(default_factory=dict)

    @property
    def n_latents(self) -> int:
        return max(self.rows) + 1


class _Collected:
    """Everything that records say, rows of equal tokens once."""

    def __init__(self) -> None:
        self.model = ""
        self.datasets: set[str] = set()
        self.coders: dict[str, _Coder] = {}
        self.strings = TokenStrings()
        self.contexts: list[NDArray[np.uint32]] = []
        self.counts: Counter[str] = Counter()
        self._known: dict[bytes, int] = {}
        self._first = ""

    def add(self, record: Record) -> None:
        values = _values(record)
        if not self._first:
            self.model, self._first = record.model, record.where
        if record.model != self.model:
            raise FormatError(
                f'{record.where}: this record is of model "{record.model}" and that of {self._first} is of '
                f'"{self.model}": import one model at a time'
            )
        if record.latent < 0:
            raise FormatError(f"{record.where}: a latent's index is {record.latent}, and should be 0 or more")
        if record.dataset:
            self.datasets.add(record.dataset)
        ids = self.strings.row(record.tokens)
        context = self._known.setdefault(ids.tobytes(), len(self.contexts))
        if context == len(self.contexts):
            self.contexts.append(ids)
        self.counts["records"] += 1
        self._note(record, context, self._firings(ids, values))

    def _firings(
        self, ids: NDArray[np.uint32], values: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Where values are above zero, on text."""
        self.counts["negative_values_dropped"] += int((values < 0).sum())
        special = self.strings.special(ids)
        self.counts["firings_on_special_tokens_dropped"] += int((special & (values > 0)).sum())
        where = np.flatnonzero((values > 0) & ~special)
        return where, values[where]

    def _note(self, record: Record, context: int, firings: tuple[NDArray[np.int64], NDArray[np.float32]]) -> None:
        rows = self.coders.setdefault(record.source, _Coder()).rows.setdefault(record.latent, {})
        if context in rows:
            self.counts["repeated_records"] += 1
            before = rows[context]
            if not all(map(np.array_equal, before, firings)):
                # a row cut from another place in its text: what fires in either is not called silent
                self.counts["repeated_records_that_differ"] += 1
                firings = _either(before, firings)
        rows[context] = firings


def write_records(records: Iterable[Record], kind: str, out: Path) -> Store:
    """Write records as a store of selected contexts at `out`, which has to be free.

    Rows of equal tokens are one context, observed for each latent that has a record of it. Each row, parted where it
    has special tokens, is documents of its own. Rows are filled up to a multiple of 32 of the longest; all are held in
    memory.

    Args:
        records: in any order; rows that a latent has twice are merged.
        kind: what wrote them, for the manifest.
        out: the store's folder.

    Raises:
        FormatError: there are no records, they are of two models, or a record is broken.
        StoreError: there is something at `out`.
    """
    with building(out) as folder:
        collected = _Collected()
        for record in records:
            collected.add(record)
        if not collected.contexts:
            raise FormatError("there are no records of any latent in what is to be imported")
        _write(collected, kind, folder)
    return Store.open(out)


def _write(collected: _Collected, kind: str, folder: Path) -> None:
    longest = max(map(len, collected.contexts))
    length = -(-longest // GRID) * GRID
    names = _names(collected.coders)
    frame = ManifestFrame(
        model=collected.model,
        corpus={"records": kind, "datasets": ", ".join(sorted(collected.datasets))},
        context=length,
        value_dtype="float32",
        sampling="selected",
    )
    frames = [CoderFrame(names[s], coder.n_latents, "", s, partial=True) for s, coder in collected.coders.items()]
    fired = {names[source]: _sorted(coder, length) for source, coder in collected.coders.items()}
    observed = {names[source]: _observed(coder) for source, coder in collected.coders.items()}
    with StoreWriter.create(folder, frame, collected.strings.vocabulary(), frames) as writer:
        for start in range(0, len(collected.contexts), _BLOCK):
            tokens = _filled(collected.contexts[start : start + _BLOCK], length)
            documents = documents_between(collected.strings.special(tokens), start)
            writer.append(tokens, documents, {name: _block(one, start, tokens) for name, one in fired.items()})
        writer.finish(dict(collected.counts), observed=observed)


@dataclass(frozen=True, slots=True)
class _Fired:
    """A coder's firings in the order of their positions."""

    positions: NDArray[np.int64]
    latents: NDArray[np.int64]
    values: NDArray[np.float32]


def _sorted(coder: _Coder, length: int) -> _Fired:
    parts = [
        (context * length + where, np.full(len(where), latent), values)
        for latent, rows in coder.rows.items()
        for context, (where, values) in rows.items()
    ]
    positions, latents, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((latents, positions))
    return _Fired(positions[order], latents[order], values[order])


def _block(fired: _Fired, start: int, tokens: NDArray[np.uint32]) -> Rows:
    first = start * tokens.shape[1]
    edges = np.searchsorted(fired.positions, np.arange(first, first + tokens.size + 1))
    here = slice(edges[0], edges[-1])
    return Rows((edges - edges[0]).astype(np.int64), fired.latents[here], fired.values[here])


def _observed(coder: _Coder) -> Observed:
    contexts = [sorted(coder.rows.get(latent, ())) for latent in range(coder.n_latents)]
    indptr = np.concatenate([[0], np.cumsum([len(some) for some in contexts])])
    return Observed(indptr.astype(np.int64), np.array([c for some in contexts for c in some], dtype=np.int64))


def _filled(rows: Sequence[NDArray[np.uint32]], length: int) -> NDArray[np.uint32]:
    tokens = np.full((len(rows), length), PAD, dtype=np.uint32)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
    return tokens


def _names(sources: Iterable[str]) -> dict[str, str]:
    """The names of coders: those of their sources, as far as a folder can have them."""
    named: dict[str, str] = {}
    for source in sources:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", source).strip("-._") or "latents"
        taken = set(named.values())
        named[source] = next(choice for choice in _numbered(name) if choice not in taken)
    return named


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _values(record: Record) -> NDArray[np.float32]:
    if len(record.tokens) != len(record.values):
        raise FormatError(
            f"{record.where}: it has {len(record.tokens)} tokens and {len(record.values)} values; "
            "there should be one value a token"
        )
    if not record.tokens:
        raise FormatError(f"{record.where}: it has no tokens")
    values = np.array(record.values, dtype=np.float32)
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise FormatError(f"{record.where}: the value at position {at} is {record.values[at]}, and should be a number")
    return values


def _either(
    one: tuple[NDArray[np.int64], NDArray[np.float32]], two: tuple[NDArray[np.int64], NDArray[np.float32]]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    where = np.union1d(one[0], two[0])
    values = np.zeros(len(where), dtype=np.float32)
    for positions, some in (one, two):
        at = np.searchsorted(where, positions)
        values[at] = np.maximum(values[at], some)
    return where, values
