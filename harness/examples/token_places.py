"""Where each token stands in a store: an index that is built once and kept in files beside it."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError
from harness.store import CoderReader, Store
from harness.store.files import keep_beside, open_array

__all__ = ["TokenPlaces", "token_places", "top_tokens"]

# How many of a latent's tokens count, and the share of its activation that they have to hold together.
_MOST = 10
_SHARE = 0.8


class TokenPlaces:
    """The positions of every token id of a store; positions of no document (BOS, padding) are left out."""

    def __init__(self, ids: NDArray[np.uint32], indptr: NDArray[np.int64], positions: NDArray[np.uint32]) -> None:
        self._ids = ids
        self._indptr = indptr
        self._positions = positions

    def of(self, token: int) -> NDArray[np.int64]:
        """The positions of a token, ascending."""
        place = int(np.searchsorted(self._ids, token))
        if place == len(self._ids) or self._ids[place] != token:
            return np.empty(0, dtype=np.int64)
        return self._positions[self._indptr[place] : self._indptr[place + 1]].astype(np.int64)


def token_places(store: Store) -> TokenPlaces:
    """The index of a store: from its files, which are written the first time (or kept in memory, where they cannot)."""
    with _LOCK:
        if store not in _PLACES:
            _PLACES[store] = _opened(store) or _built(store)
        return _PLACES[store]


_PLACES: weakref.WeakKeyDictionary[Store, TokenPlaces] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def top_tokens(coder: CoderReader, index: int) -> list[int]:
    """The tokens that hold most of a latent's activation: the fewest with four fifths of it, at most ten.

    The one with the largest sum of activations comes first, of equals the smaller id.
    """
    firings = coder.latent(index)
    tokens, place = np.unique(coder.store.tokens.reshape(-1)[firings.positions], return_inverse=True)
    sums = np.bincount(place, weights=firings.values, minlength=len(tokens))
    order = np.lexsort((tokens, -sums))
    enough = int(np.searchsorted(np.cumsum(sums[order]), _SHARE * sums.sum())) + 1
    return tokens[order[: min(enough, _MOST)]].tolist()


def _paths(store: Store) -> list[Path]:
    # named after the content that they tell of, so that a stale file is never read
    return [store.path / f"places-{part}-{store.id[:12]}.npy" for part in ("ids", "indptr", "positions")]


def _opened(store: Store) -> TokenPlaces | None:
    ids, indptr, positions = _paths(store)
    try:
        known = np.load(ids, allow_pickle=False)
        edges = open_array(indptr, "<i8", (len(known) + 1,))
        return TokenPlaces(known, np.array(edges), open_array(positions, "<u4", (int(edges[-1]),)))
    except (OSError, ValueError, StoreError):
        return None


def _built(store: Store) -> TokenPlaces:
    tokens = store.tokens.reshape(-1)
    inside = np.flatnonzero(store.documents.reshape(-1) >= 0).astype(np.uint32)
    order = inside[np.argsort(tokens[inside], kind="stable")]
    ids, counts = np.unique(tokens[inside], return_counts=True)
    arrays = ids, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]), order
    for path, array in zip(_paths(store), arrays, strict=True):
        keep_beside(path, array)
    return TokenPlaces(*arrays)
