"""Reads a finished store: tokens and documents mapped, one latent at a time by position on disk."""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError
from harness.store.files import HEADER, checksum, open_array, write_array
from harness.store.format import CoderManifest, Manifest, Observed, coder_folder, read_manifest
from harness.store.vocabulary import Vocabulary

__all__ = ["CoderReader", "Firings", "Store"]

NO_DOCUMENT = -1
TWO_DOCUMENTS = -2
_SCAN = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class Firings:
    """Where a latent fires and how strongly.

    `positions` is int64 `[firings]`, ascending, context * context_length + offset; `values` float32 `[firings]`,
    above zero.
    """

    positions: NDArray[np.int64]
    values: NDArray[np.float32]


class Store:
    """A finished store; safe to read from several threads. Made by `Store.open`.

    `tokens` is uint32 and `documents` int32 (-1 for what is of no document), both `[contexts, positions]`.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.id: str = manifest.id
        self.n_contexts: int = manifest.n_contexts
        self.context_length: int = manifest.frame.context
        shape = (self.n_contexts, self.context_length)
        self.tokens: NDArray[np.uint32] = open_array(path / "tokens.npy", "<u4", shape)
        self.documents: NDArray[np.int32] = open_array(path / "documents.npy", "<i4", shape)
        self.check_file("vocabulary.json")
        self.vocabulary = Vocabulary.load(path / "vocabulary.json")
        self._coders = {coder.name: CoderReader(self, coder) for coder in manifest.coders}
        self._window_documents: dict[int, NDArray[np.int32]] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """Open a store; reads the small files and checks the length of the large ones.

        Raises:
            StoreError: there is none, it is unfinished, broken, or a later version wrote it.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        if not manifest.finished:
            raise StoreError(f"{folder} is not finished: collect again with the same settings to go on with it")
        # the matrix has replaced them; whoever opens the store first after it was finished frees their space
        shutil.rmtree(folder / "segments", ignore_errors=True)
        return cls(folder, manifest)

    @property
    def n_tokens(self) -> int:
        """How many positions it has."""
        return self.n_contexts * self.context_length

    @property
    def coder_names(self) -> tuple[str, ...]:
        """The coders in it."""
        return tuple(self._coders)

    def coder(self, name: str) -> CoderReader:
        """A coder's activations.

        Raises:
            StoreError: the store has no coder of that name.
        """
        if name not in self._coders:
            raise StoreError(f'{self.path} has no coder "{name}"; it has: {", ".join(self._coders)}')
        return self._coders[name]

    def pieces(self, context: int, start: int, stop: int) -> tuple[str, ...]:
        """The token strings of positions `start` to `stop` of a context; the same whatever window is asked for."""
        row = self.tokens[context]
        return self.vocabulary.pieces(row[start:stop], row[:start], ends=stop >= self.context_length)

    def window_pieces(self, ids: NDArray[np.int64], window: int) -> list[tuple[str, ...]]:
        """The token strings of windows on the grid, as `pieces` gives them, for many windows at once."""
        per = self.context_length // window
        tokens = self.tokens.reshape(-1, window)
        texts = self.vocabulary.rows(tokens[ids])
        # where bytes of a character stand in two tokens, only reading the context from before helps
        split = self.vocabulary.has_partial(tokens[ids])
        before = tokens[np.maximum(ids - 1, 0)]
        split |= (ids % per > 0) & self.vocabulary.has_partial(before)
        for place in np.flatnonzero(split).tolist():
            context, start = divmod(int(ids[place]) * window, self.context_length)
            texts[place] = self.pieces(context, start, start + window)
        return texts

    def n_windows(self, window: int) -> int:
        """How many windows of that length lie in one document each.

        Raises:
            StoreError: the length does not divide the context.
        """
        return int((self.window_documents(window) >= 0).sum())

    def window_documents(self, window: int) -> NDArray[np.int32]:
        """The document of each window, int32 `[windows]`: -1 where it has none, -2 where it has two or more.

        Windows lie on a grid, `context_length / window` to a context, in the order of the contexts.

        Raises:
            StoreError: the length does not divide the context.
        """
        if window < 1 or self.context_length % window:
            raise StoreError(
                f"windows of {window} tokens do not divide {self.path}'s contexts of {self.context_length}"
            )
        if window not in self._window_documents:
            self._window_documents[window] = _window_documents(self.documents, window)
        return self._window_documents[window]

    def verify(self) -> None:
        """Compare every file with the checksum it was written with; reads the whole store.

        Raises:
            StoreError: a file is missing or corrupt; the message names it.
        """
        for name in self.manifest.files:
            self.check_file(name)

    def check_file(self, name: str) -> None:
        """Compare one file, named by its path inside the store, with its checksum.

        Raises:
            StoreError: it is missing or corrupt.
        """
        record, path = self.manifest.files.get(name), self.path / name
        if record is None:
            raise StoreError(f"{self.path / 'manifest.json'} is corrupt: it does not list {name}")
        if checksum(path) != record.crc32:
            raise StoreError(f"{path} is corrupt: not the bytes that were written; collect the store again")


class CoderReader:
    """One coder's activations in a store, by latent.

    `firings` is int64 `[latents]`, how often each fires; `maximum` float32 `[latents]`, its largest activation,
    0 for one that never fires; `decoder` float16 `[latents, d_model]` or None.
    """

    def __init__(self, store: Store, manifest: CoderManifest) -> None:
        self.store = store
        self.name = manifest.name
        self.n_latents = manifest.n_latents
        self.hookpoint = manifest.hookpoint
        self.revision = manifest.revision
        folder = coder_folder(store.path, manifest.name)
        self._folder = folder
        self._size = store.manifest.nonzeros.get(manifest.name, 0)
        store.check_file(f"coders/{manifest.name}/csc/indptr.npy")
        self._indptr: NDArray[np.int64] = np.array(
            open_array(folder / "csc" / "indptr.npy", "<i8", (self.n_latents + 1,))
        )
        self._positions: NDArray[np.uint32] = open_array(folder / "csc" / "positions.npy", "<u4", (self._size,))
        self._values: NDArray[Any] = open_array(
            folder / "csc" / "values.npy", store.manifest.frame.value_dtype, (self._size,)
        )
        store.check_file(f"coders/{manifest.name}/csc/maximum.npy")
        self.maximum: NDArray[np.float32] = np.array(
            open_array(folder / "csc" / "maximum.npy", "<f4", (self.n_latents,))
        )
        self.firings: NDArray[np.int64] = np.diff(self._indptr)
        self.decoder: NDArray[np.float16] | None = None
        if manifest.decoder is not None:
            self.decoder = open_array(folder / "decoder.npy", "<f2", (self.n_latents, manifest.decoder))
        self._position_file = _open_for_reading(self, folder / "csc" / "positions.npy")
        self._value_file = _open_for_reading(self, folder / "csc" / "values.npy")
        self._observed = self._read_observed() if manifest.partial else None
        self._windows: dict[int, NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    def latent(self, index: int) -> Firings:
        """Where a latent fires.

        Raises:
            StoreError: the coder has no such latent, or a file is truncated.
        """
        self._in_range(index)
        start, stop = int(self._indptr[index]), int(self._indptr[index + 1])
        # a positioned read brings exactly these bytes; a mapped one would read ahead and stall
        positions = self._read(self._position_file, "positions", self._positions.dtype, start, stop)
        values = self._read(self._value_file, "values", self._values.dtype, start, stop)
        return Firings(positions.astype(np.int64), values.astype(np.float32))

    def observed(self, index: int) -> NDArray[np.int64] | None:
        """The contexts in which a latent was observed, ascending; None where that is all of them.

        Nothing may be called silent where it was not observed.
        """
        self._in_range(index)
        if self._observed is None:
            return None
        return self._observed.contexts[self._observed.indptr[index] : self._observed.indptr[index + 1]]

    def windows(self, window: int) -> NDArray[np.int64]:
        """How many distinct windows of one document each latent activates, int64 `[latents]`.

        Counted once for a length, then kept in a file beside the coder (or in memory, where that cannot be
        written).

        Raises:
            StoreError: the length does not divide the context.
        """
        with self._lock:
            if window not in self._windows:
                self._windows[window] = self._kept_windows(window)
            return self._windows[window]

    def _read_observed(self) -> Observed:
        inside = f"coders/{self.name}"
        for name in ("indptr", "contexts"):
            self.store.check_file(f"{inside}/observed-{name}.npy")
        indptr = open_array(self._folder / "observed-indptr.npy", "<i8", (self.n_latents + 1,))
        return Observed(indptr, open_array(self._folder / "observed-contexts.npy", "<i8", (int(indptr[-1]),)))

    def _kept_windows(self, window: int) -> NDArray[np.int64]:
        documents = self.store.window_documents(window)
        # named after the content it was counted on, so that a stale file is never read
        path = self._folder / f"windows-{window}-{self.store.id[:12]}.npy"
        try:
            return np.array(open_array(path, "<i8", (self.n_latents,)))
        except StoreError:
            counts = self._count_windows(window, documents)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            write_array(temporary, counts)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
        return counts

    def _count_windows(self, window: int, documents: NDArray[np.int32]) -> NDArray[np.int64]:
        """Runs of equal windows in the sorted positions, those of one document, counted latent by latent."""
        single = documents >= 0
        before = np.zeros(self.n_latents + 1, dtype=np.int64)
        total, last = 0, -1
        for start in range(0, self._size, _SCAN):
            stop = min(start + _SCAN, self._size)
            ids = self._positions[start:stop].astype(np.int64) // window
            new = np.empty(len(ids), dtype=bool)
            new[0] = ids[0] != last
            np.not_equal(ids[1:], ids[:-1], out=new[1:])
            edges = self._indptr[np.searchsorted(self._indptr, start) : np.searchsorted(self._indptr, stop)]
            new[edges - start] = True
            running = np.cumsum(new & single[ids])
            here = slice(np.searchsorted(self._indptr, start, side="right"), None)
            ends = np.minimum(self._indptr[here], stop) - start
            before[here] = total + running[ends - 1]
            total, last = total + int(running[-1]), int(ids[-1])
        return np.diff(before)

    def _read(self, file: int, name: str, dtype: np.dtype[Any], start: int, stop: int) -> NDArray[Any]:
        length = (stop - start) * dtype.itemsize
        data = _pread(file, length, HEADER + start * dtype.itemsize)
        if len(data) != length:
            raise StoreError(f"{self._folder / 'csc' / name}.npy is truncated: collect the store again")
        return np.frombuffer(data, dtype=dtype)

    def _in_range(self, index: int) -> None:
        if not 0 <= index < self.n_latents:
            raise StoreError(f'coder "{self.name}" has latents 0 to {self.n_latents - 1}, not {index}')


def _window_documents(documents: NDArray[np.int32], window: int) -> NDArray[np.int32]:
    out = np.empty(documents.size // window, dtype=np.int32)
    step = max(1, _SCAN // documents.shape[1])
    per = documents.shape[1] // window
    for start in range(0, len(documents), step):
        cells = np.asarray(documents[start : start + step]).reshape(-1, window)
        most = cells.max(axis=1)
        least = np.where(cells < 0, most[:, None], cells).min(axis=1)
        out[start * per : start * per + len(cells)] = np.where(
            most < 0, NO_DOCUMENT, np.where(least == most, most, TWO_DOCUMENTS)
        )
    return out


def _open_for_reading(owner: object, path: Path) -> int:
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    weakref.finalize(owner, os.close, handle)
    return handle


def _pread(file: int, length: int, offset: int) -> bytes:
    """Read `length` bytes at `offset`; fewer only at the end of the file."""
    parts = []
    while length > 0:
        part = os.pread(file, length, offset)
        if not part:
            break
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    return b"".join(parts)
