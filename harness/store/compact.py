"""Compaction: many segments become one matrix sorted by latent, in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.store.files import ArrayFile, write_array
from harness.store.segments import Columns
from harness.store.statistics import BLOCK, Tally, blocks

__all__ = ["Part", "compact"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A segment as compaction reads it: its columns, and the tokens `[tokens]` from position `first` on."""

    columns: Columns
    first: int
    tokens: NDArray[np.uint32]


def compact(
    parts: Sequence[Part], n_latents: int, context: int, value_dtype: np.dtype[Any], folder: Path
) -> tuple[dict[str, int], Tally]:
    """Write the segments of one coder, in order, as `indptr`, `positions`, `values`, `maximum` and `checksums`.

    Goes over the latents once, in blocks of about `BLOCK` nonzeros, so memory does not grow with the store. Returns
    the CRC-32 of each file, and what was counted on the way.
    """
    indptr = np.zeros(n_latents + 1, dtype=np.int64)
    for part in parts:
        indptr += part.columns.indptr
    tally, size = Tally(indptr, context), (int(indptr[-1]),)
    checksums = np.empty(n_latents, dtype=np.uint32)
    with (
        ArrayFile(folder / "positions.npy", np.dtype("<u4"), size) as places,
        ArrayFile(folder / "values.npy", value_dtype, size) as strengths,
    ):
        for first, last in blocks(indptr, BLOCK):
            positions, tokens, values = _gather(parts, first, last, indptr, value_dtype)
            tally.add(first, last, positions, tokens, values)
            checksums[first:last] = _checksums(positions, values, indptr[first : last + 1] - indptr[first])
            places.write(positions)
            strengths.write(values)
    crc = {
        "indptr.npy": write_array(folder / "indptr.npy", indptr),
        "positions.npy": places.crc,
        "values.npy": strengths.crc,
        "maximum.npy": write_array(folder / "maximum.npy", tally.maximum),
        "checksums.npy": write_array(folder / "checksums.npy", checksums),
    }
    return crc, tally


def _gather(
    parts: Sequence[Part], first: int, last: int, indptr: NDArray[np.int64], dtype: np.dtype[Any]
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[Any]]:
    """Concatenate a block's latents segment by segment: latent after latent, the segments in order in each.

    Returns positions, the tokens there, and values.
    """
    size = int(indptr[last] - indptr[first])
    positions, tokens, values = np.empty(size, "<u4"), np.empty(size, np.uint32), np.empty(size, dtype)
    free = indptr[first:last] - indptr[first]
    for part in parts:
        own = np.asarray(part.columns.indptr[first : last + 1])
        counts, stretch = np.diff(own), slice(own[0], own[-1])
        shift = np.repeat(free - own[:-1], counts)
        shift += np.arange(own[0], own[-1])
        found = part.columns.positions[stretch]
        positions[shift] = found
        # here and not on the whole store's tokens: a segment's fit a processor's cache
        tokens[shift] = part.tokens[found - np.uint32(part.first)]
        values[shift] = part.columns.values[stretch]
        free = free + counts
    return positions, tokens, values


def _checksums(positions: NDArray[np.uint32], values: NDArray[Any], starts: NDArray[np.int64]) -> list[int]:
    """The CRC-32 of each latent's positions followed by its values, as they lie on the disk."""
    places, strengths = positions.data.cast("B"), values.data.cast("B")
    wide, edges = values.dtype.itemsize, starts.tolist()
    return [
        zlib.crc32(strengths[low * wide : high * wide], zlib.crc32(places[low * 4 : high * 4]))
        for low, high in pairwise(edges)
    ]
