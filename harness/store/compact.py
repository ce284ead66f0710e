"""Compaction: many segments become one matrix sorted by latent, in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.store.files import ArrayFile, write_array
from harness.store.segments import Part
from harness.store.statistics import BLOCK, Tally, blocks

__all__ = ["compact"]


# a block is at least `BLOCK` nonzeros and has this many of each segment (reading fewer is dear), up to the limit
_SLICE = 1 << 14
_LIMIT = 1 << 23


def compact(
    parts: Sequence[Part], tokens: NDArray[np.uint32], n_latents: int, context: int, folder: Path
) -> tuple[dict[str, int], Tally]:
    """Write the segments of one coder, in order, as `indptr`, `positions`, `values`, `maximum` and `checksums`.

    Goes over the latents once, in blocks, so memory does not grow with the store. `tokens` are the whole store's, by
    position. Returns the CRC-32 of each file, and what was counted on the way.
    """
    indptr = np.zeros(n_latents + 1, dtype=np.int64)
    for part in parts:
        indptr += part.edges(0, n_latents)
    tally, size = Tally(indptr, context), (int(indptr[-1]),)
    checksums, value_dtype = np.empty(n_latents, dtype=np.uint32), parts[0].value_dtype
    block = max(BLOCK, min(_SLICE * len(parts), _LIMIT))
    with (
        ArrayFile(folder / "positions.npy", np.dtype("<u4"), size) as places,
        ArrayFile(folder / "values.npy", value_dtype, size) as strengths,
    ):
        for first, last in blocks(indptr, block):
            positions, found, values = _gather(parts, tokens, first, last, indptr)
            tally.add(first, last, positions, found, values)
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
    parts: Sequence[Part], tokens: NDArray[np.uint32], first: int, last: int, indptr: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[Any]]:
    """Concatenate a block's latents segment by segment: latent after latent, the segments in order in each.

    Returns positions, the tokens there, and values.
    """
    size = int(indptr[last] - indptr[first])
    positions, there, values = np.empty(size, "<u4"), np.empty(size, np.uint32), np.empty(size, parts[0].value_dtype)
    free = indptr[first:last] - indptr[first]
    for part in parts:
        own = part.edges(first, last)
        counts, low, high = np.diff(own), int(own[0]), int(own[-1])
        if low == high:
            continue
        shift = np.repeat(free - own[:-1], counts)
        shift += np.arange(low, high)
        found = part.positions(low, high)
        positions[shift] = found
        # segment by segment: one's tokens fit a processor's cache, the whole store's do not
        there[shift] = tokens[found]
        values[shift] = part.values(low, high)
        free = free + counts
    return positions, there, values


def _checksums(positions: NDArray[np.uint32], values: NDArray[Any], starts: NDArray[np.int64]) -> list[int]:
    """The CRC-32 of each latent's positions followed by its values, as they lie on the disk."""
    places, strengths = positions.data.cast("B"), values.data.cast("B")
    wide, edges = values.dtype.itemsize, starts.tolist()
    return [
        zlib.crc32(strengths[low * wide : high * wide], zlib.crc32(places[low * 4 : high * 4]))
        for low, high in pairwise(edges)
    ]
