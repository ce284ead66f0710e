"""Compaction: many segments become one matrix sorted by latent, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.store.files import write_array, write_chunks
from harness.store.segments import Columns

__all__ = ["compact"]

BLOCK = 1 << 22


def compact(parts: Sequence[Columns], n_latents: int, value_dtype: np.dtype[Any], folder: Path) -> dict[str, int]:
    """Write the segments of one coder, in order, as `indptr`, `positions`, `values` and `maximum`.

    Goes over the latents in blocks of about `BLOCK` nonzeros, so memory does not grow with the store. Returns the
    CRC-32 of each file.
    """
    indptr = np.zeros(n_latents + 1, dtype=np.int64)
    for part in parts:
        indptr += part.indptr
    blocks = _blocks(indptr)
    size = int(indptr[-1])
    maximum = np.zeros(n_latents, dtype=np.float32)

    def positions() -> Iterator[NDArray[Any]]:
        for block in blocks:
            yield _gather([(part, part.positions) for part in parts], block, indptr, np.dtype("<u4"))

    def values() -> Iterator[NDArray[Any]]:
        for block in blocks:
            gathered = _gather([(part, part.values) for part in parts], block, indptr, value_dtype)
            _note_maxima(maximum, gathered, block, indptr)
            yield gathered

    return {
        "indptr.npy": write_array(folder / "indptr.npy", indptr),
        "positions.npy": write_chunks(folder / "positions.npy", np.dtype("<u4"), (size,), positions()),
        "values.npy": write_chunks(folder / "values.npy", value_dtype, (size,), values()),
        "maximum.npy": write_array(folder / "maximum.npy", maximum),
    }


@dataclass(frozen=True, slots=True)
class _Block:
    first: int
    last: int


def _blocks(indptr: NDArray[np.int64]) -> list[_Block]:
    """Ranges of latents of about `BLOCK` nonzeros; a denser latent is a block of its own."""
    blocks, first, n_latents = [], 0, len(indptr) - 1
    while first < n_latents:
        reach = int(np.searchsorted(indptr, indptr[first] + BLOCK, side="right")) - 1
        last = min(max(reach, first + 1), n_latents)
        blocks.append(_Block(first, last))
        first = last
    return blocks


def _gather(
    parts: Sequence[tuple[Columns, NDArray[Any]]], block: _Block, indptr: NDArray[np.int64], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Concatenate a block's latents segment by segment: latent after latent, the segments in order in each."""
    latents = slice(block.first, block.last + 1)
    out = np.empty(int(indptr[block.last] - indptr[block.first]), dtype=dtype)
    free = indptr[latents][:-1] - indptr[block.first]
    for part, data in parts:
        own = np.asarray(part.indptr[latents])
        counts = np.diff(own)
        shift = np.repeat(free - own[:-1], counts)
        shift += np.arange(own[0], own[-1])
        out[shift] = data[own[0] : own[-1]]
        free = free + counts
    return out


def _note_maxima(maximum: NDArray[np.float32], values: NDArray[Any], block: _Block, indptr: NDArray[np.int64]) -> None:
    starts = indptr[block.first : block.last] - indptr[block.first]
    alive = np.diff(indptr[block.first : block.last + 1]) > 0
    if alive.any():
        # silent latents have no entries: leaving their starts out gives each live one exactly its own
        maximum[block.first : block.last][alive] = np.maximum.reduceat(values, starts[alive]).astype(np.float32)
