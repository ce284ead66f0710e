"""Reads a finished store's coders, one latent at a time by position on disk."""

from __future__ import annotations

import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError
from harness.store.files import keep_beside, open_array, open_for_reading, read_open
from harness.store.format import CoderManifest, Manifest, Observed, coder_folder, read_manifest
from harness.store.rows import Fired
from harness.store.statistics import BLOCK, KEPT, Statistics, Tally, blocks
from harness.store.text import StoredText
from harness.store.windows import count_windows

__all__ = ["Block", "CoderReader", "Firings", "Store"]


@dataclass(frozen=True, slots=True, eq=False)
class Firings:
    """Where a latent fires and how strongly.

    `positions` is int64 `[firings]`, ascending, context * context_length + offset; `values` float32 `[firings]`,
    above zero.
    """

    positions: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Neighbouring latents from `first` on, as they are stored: latent after latent, its positions ascending.

    `indptr` is int64 `[latents + 1]`, from 0; `positions` uint32 and `values` float16 or float32 `[nonzeros]`.
    """

    first: int
    indptr: NDArray[np.int64]
    positions: NDArray[np.uint32]
    values: NDArray[Any]


class Store(StoredText):
    """A finished store; safe to read from several threads. Made by `Store.open`.

    A file whose bytes are not those that were written is an error that names it, when it is first read.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        super().__init__(path, manifest)
        self._coders = {coder.name: CoderReader(self, coder) for coder in manifest.coders}

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


class CoderReader:
    """One coder's activations in a store, by latent.

    `firings` is int64 `[latents]`, how often each fires; `maximum` float32 `[latents]`, its largest activation,
    0 for one that never fires.
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
        self._decoder: NDArray[np.float16] | None = None
        if manifest.decoder is not None:
            self._decoder = open_array(folder / "decoder.npy", "<f2", (self.n_latents, manifest.decoder))
        # a store of an earlier release has none
        self._checksums = self._kept("csc/checksums", "<u4", ())
        self._sound: NDArray[np.bool_] = np.zeros(self.n_latents, dtype=bool)
        self._rows = self._open_rows() if manifest.rows else None
        # with their names: to put one together takes longer than to read a latent
        paths = folder / "csc" / "positions.npy", folder / "csc" / "values.npy"
        self._position_file = open_for_reading(self, paths[0]), paths[0]
        self._value_file = open_for_reading(self, paths[1]), paths[1]
        self._observed = self._read_observed() if manifest.partial else None
        self._windows: dict[int, NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    def latent(self, index: int) -> Firings:
        """Where a latent fires.

        Raises:
            StoreError: the coder has no such latent, or a file is truncated or corrupt.
        """
        self._in_range(index)
        start, stop = int(self._indptr[index]), int(self._indptr[index + 1])
        # a positioned read brings exactly these bytes; a mapped one would read ahead and stall
        positions, values = self._stretch(start, stop)
        if self._checksums is not None and not self._sound[index]:
            if zlib.crc32(values.data, zlib.crc32(positions.data)) != self._checksums[index]:
                self._name_the_corrupt_file()
            self._sound[index] = True
        return Firings(positions.astype(np.int64), values.astype(np.float32))

    def scan(self) -> Iterator[Block]:
        """All latents in order, in blocks of some megabytes: the quick way to look at every one.

        Raises:
            StoreError: a file is corrupt.
        """
        for name in ("positions", "values"):
            self.store.check_once(f"coders/{self.name}/csc/{name}.npy")
        for first, last in blocks(self._indptr, BLOCK):
            edges = self._indptr[first : last + 1]
            yield Block(first, edges - edges[0], *self._stretch(int(edges[0]), int(edges[-1])))

    @property
    def decoder(self) -> NDArray[np.float16] | None:
        """The decoder's rows, `[latents, d_model]`, or None where the coder has none."""
        if self._decoder is not None:
            self.store.check_once(f"coders/{self.name}/decoder.npy")
        return self._decoder

    @cached_property
    def statistics(self) -> Statistics:
        """What was counted of each latent; a store of an earlier release is counted now, in one pass over it."""
        kept = {name: self._kept(f"statistics/{name}", dtype, more) for name, (dtype, more) in KEPT.items()}
        if any(array is None for array in kept.values()):
            kept = self._count().arrays
        return Statistics(read=self._read_tokens(), firings=self.firings, maximum=self.maximum, **cast(Any, kept))

    def fired(self, start: int, stop: int) -> Fired:
        """Which latents fire at positions `start` to `stop` (context * context_length + offset).

        Raises:
            StoreError: the coder was collected without rows, the store has no such positions, or a file is corrupt.
        """
        if self._rows is None:
            raise StoreError(f'coder "{self.name}" of {self.store.path} was collected without rows: add_rows adds them')
        if not 0 <= start <= stop <= self.store.n_tokens:
            raise StoreError(f"{self.store.path} has positions 0 to {self.store.n_tokens}, not {start} to {stop}")
        for name in ("indptr", "latents"):
            self.store.check_once(f"coders/{self.name}/rows/{name}.npy")
        edges = np.array(self._rows.indptr[start : stop + 1])
        return Fired(edges - edges[0], np.array(self._rows.latents[edges[0] : edges[-1]]))

    @property
    def has_rows(self) -> bool:
        """Whether `fired` and `fired_at` can tell what fires at a token."""
        return self._rows is not None

    def fired_at(self, positions: NDArray[np.int64]) -> Fired:
        """Which latents fire at each of some positions, in their order; otherwise as `fired`."""
        if self._rows is None or not len(positions):
            return self.fired(0, 0)
        self.fired(int(positions.min()), int(positions.min()))  # looks at the files, the first time
        starts, counts = self._rows.indptr[positions], self._rows.indptr[positions + 1] - self._rows.indptr[positions]
        edges = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        return Fired(edges, self._rows.latents[np.repeat(starts - edges[:-1], counts) + np.arange(edges[-1])])

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

    def _stretch(self, start: int, stop: int) -> tuple[NDArray[np.uint32], NDArray[Any]]:
        """Positions and values of some nonzeros, as stored."""
        return (
            read_open(*self._position_file, self._positions.dtype, start, stop),
            read_open(*self._value_file, self._values.dtype, start, stop),
        )

    def _kept(self, name: str, dtype: str, more: tuple[int, ...]) -> NDArray[Any] | None:
        """One of the coder's smaller files, `[latents, ...]`, checked and in memory; None where there is none."""
        inside = f"coders/{self.name}/{name}.npy"
        if inside not in self.store.manifest.files:
            return None
        self.store.check_file(inside)
        return np.array(open_array(self.store.path / inside, dtype, (self.n_latents, *more)))

    def _count(self) -> Tally:
        tally, tokens = Tally(self._indptr, self.store.context_length), self.store.tokens.reshape(-1)
        for block in self.scan():
            last = block.first + len(block.indptr) - 1
            tally.add(block.first, last, block.positions, tokens[block.positions], block.values)
        return tally

    def _read_tokens(self) -> NDArray[np.int64]:
        """How many tokens each latent was looked at, `[latents]`."""
        if self._observed is None:
            return np.full(self.n_latents, self.store.read.sum(), dtype=np.int64)
        before = np.concatenate([[0], np.cumsum(self.store.read[self._observed.contexts])])
        return np.diff(before[self._observed.indptr])

    def _open_rows(self) -> Fired:
        folder = self._folder / "rows"
        indptr = open_array(folder / "indptr.npy", "<i8", (self.store.n_tokens + 1,))
        return Fired(indptr, open_array(folder / "latents.npy", "<i4", (self._size,)))

    def _name_the_corrupt_file(self) -> None:
        for name in ("positions", "values", "checksums"):
            self.store.check_file(f"coders/{self.name}/csc/{name}.npy")
        raise StoreError(f"{self._folder / 'csc'} changes while it is read")

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
            self.store.check_once(f"coders/{self.name}/csc/positions.npy")
            counts = count_windows(self._indptr, self._positions, window, documents >= 0)
        keep_beside(path, counts)
        return counts

    def _in_range(self, index: int) -> None:
        if not 0 <= index < self.n_latents:
            raise StoreError(f'coder "{self.name}" has latents 0 to {self.n_latents - 1}, not {index}')
