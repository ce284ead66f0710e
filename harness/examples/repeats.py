"""Which runs of tokens a store has more than once: only windows with one of these can share a run with another."""

from __future__ import annotations

import weakref
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.examples.windows import RUN, contained, run_hashes
from harness.store import Store

__all__ = ["Repeats", "repeats_of"]

# beyond it every window is compared: 8 bytes a token, and as many to sort them, would be much memory
_MOST: Final = 1 << 25
_CHUNK: Final = 4096

_KNOWN: weakref.WeakKeyDictionary[Store, Repeats] = weakref.WeakKeyDictionary()


class Repeats:
    """Where runs of `RUN` tokens begin that the store has elsewhere too; `starts` are int32, ascending.

    None stands for anywhere.
    """

    def __init__(self, starts: NDArray[np.int32] | None) -> None:
        self._starts = starts

    def among(self, windows: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Which windows (indices of their starts) hold such a run; the others share none with any window.

        Windows shorter than a run, which are compared as a whole, count as holding one.
        """
        if self._starts is None or length < RUN:
            return np.arange(len(windows))
        first = self._starts.searchsorted(windows)
        return np.flatnonzero(first < self._starts.searchsorted(windows + length - RUN, side="right"))


def repeats_of(store: Store) -> Repeats:
    """A store's repeated runs; looked for once."""
    if store not in _KNOWN:
        _KNOWN[store] = _find(store)
    return _KNOWN[store]


def _find(store: Store) -> Repeats:
    if store.n_tokens > _MOST or store.context_length < RUN:
        return Repeats(None)
    tokens = store.tokens
    parts = [run_hashes(tokens[low : low + _CHUNK]).reshape(-1) for low in range(0, store.n_contexts, _CHUNK)]
    hashes = np.concatenate(parts)
    ordered = np.sort(hashes)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    context, place = np.divmod(np.flatnonzero(contained(hashes, again)), store.context_length - RUN + 1)
    return Repeats((context * store.context_length + place).astype(np.int32))
