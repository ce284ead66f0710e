"""Which part of the documents a window belongs to: one hash decides it, for every latent, arm and sampler."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.store import Store
from harness.task import SplitSettings
from harness.values import Split, seed_of

__all__ = ["NO_SPLIT", "SPLITS", "Grid", "grid_of", "split_of"]

SPLITS: Final[tuple[Split, ...]] = ("shown", "select", "scored")
NO_SPLIT: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A store's windows of one length and the split of each.

    `split` is int8 `[windows]`: an index into `SPLITS`, or `NO_SPLIT` for windows that hold no document or more
    than one, which are never examples. `members` has the windows of each split, int64, ascending.
    """

    window: int
    per_context: int
    split: NDArray[np.int8]
    members: Mapping[Split, NDArray[np.int64]]
    n_usable: int


def split_of(seed: int, documents: NDArray[np.integer], shares: SplitSettings) -> NDArray[np.int8]:
    """The split of each document, int8, an index into `SPLITS`.

    A hash of (seed, document) is a number in [0, 1): below `shown` it is shown, below `shown + select` select,
    else scored. It depends on nothing else.
    """
    uniform = (_mixed(seed_of(seed, "documents"), documents) >> np.uint64(11)) * 2.0**-53
    return ((uniform >= shares.shown).astype(np.int8) + (uniform >= shares.shown + shares.select)).astype(np.int8)


_GRIDS: weakref.WeakKeyDictionary[Store, dict[tuple[int, int, SplitSettings], Grid]] = weakref.WeakKeyDictionary()


def grid_of(store: Store, window: int, seed: int, shares: SplitSettings) -> Grid:
    """The windows of a store and their splits; made once for a store and these settings.

    Raises:
        StoreError: the window does not divide the store's contexts.
    """
    known = _GRIDS.setdefault(store, {})
    key = (window, seed, shares)
    if key not in known:
        known[key] = _make(store, window, seed, shares)
    return known[key]


def _make(store: Store, window: int, seed: int, shares: SplitSettings) -> Grid:
    documents = store.window_documents(window)
    split = split_of(seed, documents, shares)
    split[documents < 0] = NO_SPLIT
    members: dict[Split, NDArray[np.int64]] = {
        name: np.flatnonzero(split == place) for place, name in enumerate(SPLITS)
    }
    return Grid(window, store.context_length // window, split, members, int((split != NO_SPLIT).sum()))


def _mixed(seed: int, numbers: NDArray[np.integer]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014) of seed and number: 64 well mixed bits each."""
    bits = np.uint64(seed) + (numbers.astype(np.int64).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
