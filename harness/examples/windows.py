"""Windows on a grid: where a latent is active, how strongly, and which runs of tokens they share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.store import Firings, Store

__all__ = [
    "RUN",
    "Windows",
    "activating_windows",
    "contained",
    "dense_activations",
    "run_hashes",
    "window_tokens",
]

RUN: Final = 16
_BASE: Final = 0x9E3779B97F4A7C15 | 1


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The windows that a latent activates.

    `starts` are int64 `[windows]`, ascending: the position in the store of each one's first token; none crosses a
    context, and none overlaps another. `maxima` is float32 `[windows]`, the largest activation in each; `first` and
    `stop` bound each one's firings in the latent's list.
    """

    starts: NDArray[np.int64]
    maxima: NDArray[np.float32]
    first: NDArray[np.int64]
    stop: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Windows:
        """Some of the windows, by mask or by index."""
        return Windows(self.starts[chosen], self.maxima[chosen], self.first[chosen], self.stop[chosen])


def activating_windows(firings: Firings, length: int) -> Windows:
    """The distinct windows of the grid from the store's start with any firing, and the maximum of each."""
    ids = firings.positions // length
    first = np.flatnonzero(np.diff(ids, prepend=-1))
    stop = np.append(first[1:], len(ids)) if len(first) else first
    maxima = np.maximum.reduceat(firings.values, first) if len(first) else firings.values
    return Windows(ids[first] * length, maxima, first, stop)


def dense_activations(windows: Windows, firings: Firings, length: int) -> NDArray[np.float32]:
    """The activations on each position of each window, float32 `[windows, positions]`, zero where silent."""
    counts = windows.stop - windows.first
    rows = np.repeat(np.arange(len(windows)), counts)
    # the k-th firing of a window is the k-th after its first
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    source = np.repeat(windows.first, counts) + within
    dense = np.zeros((len(windows), length), dtype=np.float32)
    dense[rows, firings.positions[source] - windows.starts[rows]] = firings.values[source]
    return dense


def window_tokens(store: Store, starts: NDArray[np.int64], length: int) -> NDArray[np.uint32]:
    """The token ids of windows, uint32 `[windows, positions]`."""
    return store.tokens.reshape(-1)[starts[:, None] + np.arange(length)]


def run_hashes(tokens: NDArray[np.uint32], run: int = RUN) -> NDArray[np.uint64]:
    """A 64-bit hash of every run of that many tokens, uint64 `[windows, positions - run + 1]`.

    Equal runs have equal hashes wherever they stand. A window shorter than the run counts as one run.
    """
    length = tokens.shape[1]
    run = min(run, length)
    powers, inverses = _powers(length), _inverse_powers(length - run + 1)
    sums = np.zeros((len(tokens), length + 1), dtype=np.uint64)
    np.cumsum(_spread(tokens) * powers, axis=1, out=sums[:, 1:])
    return (sums[:, run:] - sums[:, : length - run + 1]) * inverses


def contained(items: NDArray[Any], ascending: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each item is in a sorted array; bool, of the shape of `items`."""
    if not len(ascending):
        return np.zeros(items.shape, dtype=bool)
    places = np.minimum(np.searchsorted(ascending, items), len(ascending) - 1)
    return ascending[places] == items


def _spread(tokens: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: token ids are small and close, their hashes are not."""
    bits = (tokens.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return bits ^ (bits >> np.uint64(31))


@cache
def _powers(count: int) -> NDArray[np.uint64]:
    return np.array([pow(_BASE, k, 1 << 64) for k in range(count)], dtype=np.uint64)


@cache
def _inverse_powers(count: int) -> NDArray[np.uint64]:
    # the base is odd, so it has an inverse modulo 2^64: dividing by its power undoes where the run stands
    inverse = pow(_BASE, -1, 1 << 64)
    return np.array([pow(inverse, k, 1 << 64) for k in range(count)], dtype=np.uint64)
