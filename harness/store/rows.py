"""Rows: which latents fire at each token, kept beside the matrix sorted by latent where they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.store.files import ArrayFile
from harness.store.segments import Columns

__all__ = ["Fired", "Stretch", "stretches", "write_rows"]


@dataclass(frozen=True, slots=True, eq=False)
class Fired:
    """The latents that fire at consecutive positions, as a CSR matrix `[positions, latents]` without values.

    `indptr` is int64 `[positions + 1]`, from 0; `latents` int32 `[nonzeros]`, ascending at each position.
    """

    indptr: NDArray[np.int64]
    latents: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """The columns of positions `first` to `stop`, small enough to be turned in memory; values are not looked at."""

    first: int
    stop: int
    columns: Columns


def write_rows(stretches: Iterable[Stretch], n_tokens: int, nonzeros: int, folder: Path) -> dict[str, int]:
    """Write `indptr` and `latents` from stretches that follow one another; returns the CRC-32 of each file.

    Memory is that of one stretch: some 20 bytes a nonzero.
    """
    done = 0
    with (
        ArrayFile(folder / "indptr.npy", np.dtype("<i8"), (n_tokens + 1,)) as edges,
        ArrayFile(folder / "latents.npy", np.dtype("<i4"), (nonzeros,)) as latents,
    ):
        edges.write(np.zeros(1, dtype=np.int64))
        for stretch in stretches:
            fired = _turned(stretch)
            edges.write(fired.indptr[1:] + done)
            latents.write(fired.latents)
            done += len(fired.latents)
    return {"indptr.npy": edges.crc, "latents.npy": latents.crc}


def stretches(matrix: Columns, n_tokens: int, size: int) -> Iterator[Stretch]:
    """A whole matrix, mapped into memory, as stretches of about `size` nonzeros."""
    step = max(1, round(size * n_tokens / max(1, len(matrix.positions))))
    begin = matrix.indptr[:-1].copy()
    for first in range(0, n_tokens, step):
        stop = min(first + step, n_tokens)
        end = _behind(matrix, begin, stop)
        counts = end - begin
        indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        places = np.repeat(begin - indptr[:-1], counts)
        places += np.arange(indptr[-1])
        yield Stretch(first, stop, Columns(indptr, matrix.positions[places], np.empty(0, dtype=np.float16)))
        begin = end


def _behind(matrix: Columns, begin: NDArray[np.int64], stop: int) -> NDArray[np.int64]:
    """For each latent, where its positions from `begin` on reach `stop`: a binary search for all at once."""
    low, high = begin.copy(), matrix.indptr[1:].copy()
    while (open_ := np.flatnonzero(low < high)).size:
        middle = (low[open_] + high[open_]) // 2
        before = matrix.positions[middle] < stop
        low[open_[before]] = middle[before] + 1
        high[open_[~before]] = middle[~before]
    return low


def _turned(stretch: Stretch) -> Fired:
    from scipy.sparse import csc_array  # here because importing it takes longer than opening a store

    columns = stretch.columns
    n_positions, n_latents = stretch.stop - stretch.first, len(columns.indptr) - 1
    places = (columns.positions - np.uint32(stretch.first)).astype(np.int32)
    nothing = np.zeros(len(places), dtype=np.int8)  # SciPy turns no matrix without values
    turned = csc_array((nothing, places, columns.indptr), shape=(n_positions, n_latents)).tocsr()
    return Fired(turned.indptr.astype(np.int64), turned.indices.astype(np.int32))
