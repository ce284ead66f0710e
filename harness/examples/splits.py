"""Which part of the documents a window belongs to: decided once, for every latent, arm, sampler and rung."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.store import Store
from harness.task import SplitSettings
from harness.values import Split, seed_of

__all__ = ["NO_SPLIT", "SPLITS", "Grid", "grid_of", "rows_split", "split_of"]

SPLITS: Final[tuple[Split, ...]] = ("shown", "select", "scored")
NO_SPLIT: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A store's windows of one length and the split of each.

    `split` is int8 `[windows]`: an index into `SPLITS`, or `NO_SPLIT` for windows that hold no document or more
    than one, which are never examples; where records were selected, also for those of which less than half is text
    (a row's last window is as short as the row leaves it). `members` has the windows of each split, int64, ascending.
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


_GRIDS: weakref.WeakKeyDictionary[Store, dict[tuple[int, int, float, float, float], Grid]] = weakref.WeakKeyDictionary()


def grid_of(store: Store, window: int, seed: int, shares: SplitSettings) -> Grid:
    """The windows of a store and their splits; made once for a store and these settings.

    Raises:
        StoreError: the window does not divide the store's contexts.
    """
    known = _GRIDS.setdefault(store, {})
    # as plain numbers: the settings' own hash takes longer than all else here
    key = (window, seed, shares.shown, shares.select, shares.scored)
    if key not in known:
        known[key] = _make(store, window, seed, shares)
    return known[key]


def rows_split(store: Store, seed: int, shares: SplitSettings) -> NDArray[np.int8]:
    """The split of each context of a store of selected records, int8, `NO_SPLIT` for one that no latent has.

    A hash alone would leave many a latent of 30 rows, 5 of them silent, with nothing to score. So rows are dealt out,
    latent by latent, in the order of a hash of (seed, row): those that the latent activates by the shares, those on
    which it is silent, which no explainer sees, between select and scored. A row that an earlier latent has too keeps
    its split, which counts: a row is in one split for every latent.
    """
    order = _mixed(seed_of(seed, "documents"), np.arange(store.n_contexts))
    split = np.full(store.n_contexts, NO_SPLIT, dtype=np.int8)
    for coder in map(store.coder, store.coder_names):
        for index in range(coder.n_latents):
            rows = coder.observed(index)
            if rows is None or not len(rows):
                continue
            fires = np.isin(rows, coder.latent(index).positions // store.context_length)
            _deal(split, rows[fires], order, (shares.shown, shares.select, shares.scored))
            _deal(split, rows[~fires], order, (0.0, shares.select, shares.scored))
    return split


def _deal(split: NDArray[np.int8], rows: NDArray[np.int64], order: NDArray[np.uint64], shares: Sequence[float]) -> None:
    """Give the rows that have no split one, so that the splits of all come as near to the shares as they can."""
    free = rows[split[rows] == NO_SPLIT]
    free = free[np.argsort(order[free], kind="stable")]
    exact = np.array(shares) / sum(shares) * len(rows)
    wanted = exact.astype(np.int64)
    # what is left over by rounding down goes to the largest remainders
    wanted[np.argsort(wanted - exact, kind="stable")[: len(rows) - int(wanted.sum())]] += 1
    have = np.bincount(split[rows][split[rows] != NO_SPLIT], minlength=len(SPLITS))
    labels = np.repeat(np.arange(len(SPLITS), dtype=np.int8), np.maximum(wanted - have, 0))
    split[free] = labels[: len(free)]


def _make(store: Store, window: int, seed: int, shares: SplitSettings) -> Grid:
    documents = store.window_documents(window)
    if store.manifest.frame.sampling == "selected":
        split = np.repeat(rows_split(store, seed, shares), store.context_length // window)
        text = (np.asarray(store.documents) >= 0).reshape(-1, window).sum(axis=1)
        split[2 * text < window] = NO_SPLIT
    else:
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
