"""Latents that are related to a latent: by the direction of their decoder rows, and by firing on the same tokens."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.store import CoderReader
from harness.store.files import keep_beside
from harness.store.format import coder_folder
from harness.values import seed_of

__all__ = ["RELATED", "cooccurring", "find_neighbours", "nearest", "neighbours", "sample_together"]

# how many related latents a rung draws from
RELATED: Final = 10
# rows and columns of a block of cosines; with the tile's rows as float32 this is what a search holds in memory
_ROWS: Final = 512
_TILE: Final = 8192
# Cosines are rounded before they are ranked: the last bits of a product depend on what else is computed with it.
_DECIMALS: Final = 5
# where a store keeps no rows, latents are counted together on about so many tokens
_SAMPLE: Final = 1 << 20
# firings whose tokens are looked at together
_STEP: Final = 1 << 16


def neighbours(coder: CoderReader, index: int) -> NDArray[np.int64]:
    """The `RELATED` latents whose decoder rows have the largest cosine with a latent's, the largest first.

    Latents that never fire are left out; empty where the coder has no decoder.
    """
    find_neighbours(coder, [index])
    found = _known(coder).get(index, np.empty(0, dtype=np.int64))
    return found[found >= 0]


def find_neighbours(coder: CoderReader, indexes: Sequence[int]) -> None:
    """Look for the neighbours of many latents at once, which takes little longer than for one.

    What is found is kept in a file beside the coder (or in memory, where it cannot be written).
    """
    with _LOCK:
        known = _known(coder)
        missing = np.array([index for index in indexes if index not in known], dtype=np.int64)
        if coder.decoder is None or not len(missing):
            return
        found, _ = nearest(coder.decoder, missing, RELATED, alive=coder.firings > 0)
        known.update(zip(missing.tolist(), found, strict=True))
        keep_beside(_path(coder), np.array([[index, *row] for index, row in sorted(known.items())], dtype=np.int64))


_NEAREST: weakref.WeakKeyDictionary[CoderReader, dict[int, NDArray[np.int64]]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def _path(coder: CoderReader) -> Path:
    # named after the content that it tells of, so that a stale file is never read
    return coder_folder(coder.store.path, coder.name) / f"neighbours-{RELATED}-{coder.store.id[:12]}.npy"


def _known(coder: CoderReader) -> dict[int, NDArray[np.int64]]:
    if coder not in _NEAREST:
        try:
            rows = np.load(_path(coder), allow_pickle=False)
        except (OSError, ValueError):
            rows = np.empty((0, 1 + RELATED), dtype=np.int64)
        _NEAREST[coder] = {int(row[0]): row[1:] for row in rows}
    return _NEAREST[coder]


def nearest(
    decoder: NDArray[Any],
    latents: NDArray[np.integer],
    count: int,
    *,
    alive: NDArray[np.bool_] | None = None,
    tile: int = _TILE,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows of largest cosine with each of some rows, themselves and zero rows left out.

    Never more than a block of cosines is in memory: `[512, tile]`, beside a tile of rows as float32.

    Args:
        decoder: directions, float `[latents, d]`.
        latents: whose neighbours are wanted.
        count: how many of each.
        alive: which rows may be neighbours, bool `[latents]`; None for all.
        tile: rows of the decoder that are looked at together.

    Returns:
        Indices, int64 `[wanted, count]`, by falling cosine and then by index, and the cosines, float32, rounded to
        five places; -1 and -inf where there are no more.
    """
    ids = np.full((len(latents), count), -1, dtype=np.int64)
    best = np.full((len(latents), count), -np.inf, dtype=np.float32)
    for low in range(0, len(latents), _ROWS):
        part = slice(low, low + _ROWS)
        rows = _unit(decoder[latents[part]])
        for start in range(0, len(decoder), tile):
            chosen = np.arange(start, min(start + tile, len(decoder)))
            columns = _unit(decoder[start : start + tile])
            cosines = np.round(rows @ columns.T, _DECIMALS)
            refused = ~columns.any(axis=1)
            if alive is not None:
                refused |= ~alive[chosen]
            cosines[:, refused] = -np.inf
            cosines[latents[part][:, None] == chosen] = -np.inf
            ids[part], best[part] = _merged(ids[part], best[part], chosen, cosines, count)
    ids[np.isneginf(best)] = -1
    return ids, best


def cooccurring(coder: CoderReader, index: int, count: int = RELATED) -> NDArray[np.int64]:
    """The latents that fire on the same tokens as a latent most often for how often either fires, the first first.

    By the Jaccard index of the two sets of tokens, ties by index. Exact where the store keeps rows; else on about a
    million tokens of contexts drawn at random, the same for all latents.
    """
    together, firings = _counted(coder, index)
    together[index] = 0
    either = np.maximum(firings + firings[index] - together, 1)
    order = np.lexsort((np.arange(len(together)), -together / either))[:count]
    return order[together[order] > 0]


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    wide = np.asarray(rows, dtype=np.float32)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)


def _merged(
    ids: NDArray[np.int64],
    best: NDArray[np.float32],
    chosen: NDArray[np.int64],
    cosines: NDArray[np.float32],
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best of what was found before and of a tile."""
    # those that can be among the best: as large as the tile's own count-th, ties included
    if cosines.shape[1] > count:
        least = np.partition(cosines, -count, axis=1)[:, -count]
        useful = (cosines >= np.maximum(least, best[:, -1])[:, None]).any(axis=0)
        chosen, cosines = chosen[useful], cosines[:, useful]
    every = np.concatenate([best, cosines], axis=1)
    names = np.concatenate([ids, np.broadcast_to(chosen, cosines.shape)], axis=1)
    order = np.lexsort((names, -every), axis=1)[:, :count]
    return np.take_along_axis(names, order, 1), np.take_along_axis(every, order, 1)


def _counted(coder: CoderReader, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often each latent fires where a latent does, and how often it fires at all, int64 `[latents]` each."""
    positions = coder.latent(index).positions
    together = np.zeros(coder.n_latents, dtype=np.int64)
    if not coder.has_rows:
        sample = sample_together(coder)
        positions = positions[sample.mask[positions // coder.store.context_length]]
        places = np.searchsorted(sample.positions, positions)
        found = sample.latents[_spans(sample.indptr[places], sample.indptr[places + 1])]
        return np.bincount(found, minlength=coder.n_latents), sample.firings
    for low in range(0, len(positions), _STEP):
        found = coder.fired_at(positions[low : low + _STEP]).latents
        together += np.bincount(found, minlength=coder.n_latents)
    return together, coder.firings


class _Sample:
    """What fires in some contexts: `latents` of each of the ascending `positions` at which anything does."""

    def __init__(self, coder: CoderReader) -> None:
        store = coder.store
        order = np.random.Generator(np.random.PCG64(seed_of("cooccurring", store.id))).permutation(store.n_contexts)
        self.mask = np.zeros(store.n_contexts, dtype=bool)
        self.mask[order[: max(1, _SAMPLE // store.context_length)]] = True
        latents, positions = [], []
        for block in coder.scan():
            inside = self.mask[block.positions // store.context_length]
            numbers = np.repeat(np.arange(len(block.indptr) - 1, dtype=np.int32), np.diff(block.indptr))
            latents.append(numbers[inside] + np.int32(block.first))
            positions.append(block.positions[inside])
        at = np.concatenate(positions)
        every = np.concatenate(latents)
        order = np.argsort(at, kind="stable")
        self.latents = every[order]
        self.positions, counts = np.unique(at, return_counts=True)
        self.indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        self.firings = np.bincount(every, minlength=coder.n_latents)


_SAMPLES: weakref.WeakKeyDictionary[CoderReader, _Sample] = weakref.WeakKeyDictionary()


def sample_together(coder: CoderReader) -> _Sample:
    """What fires in the contexts on which latents are counted together; looked up once for a coder."""
    if coder not in _SAMPLES:
        _SAMPLES[coder] = _Sample(coder)
    return _SAMPLES[coder]


def _spans(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each start to its stop, one span after the other."""
    counts = stops - starts
    return np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
