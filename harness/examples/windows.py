"""Windows on a grid: where a latent is active, and how strongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.store import Firings

__all__ = [
    "Windows",
    "activating_windows",
    "contained",
    "dense_activations",
]


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
        # numbers are gathered several times as fast as by a mask
        places = chosen.nonzero()[0] if chosen.dtype == bool else chosen
        return Windows(self.starts[places], self.maxima[places], self.first[places], self.stop[places])


def activating_windows(firings: Firings, length: int) -> Windows:
    """The distinct windows of the grid from the store's start with any firing, and the maximum of each."""
    ids = firings.positions // length
    first = _changes(ids).nonzero()[0]
    stop = np.append(first[1:], len(ids)) if len(first) else first
    maxima = np.maximum.reduceat(firings.values, first) if len(first) else firings.values
    return Windows(ids[first] * length, maxima, first, stop)


def dense_activations(
    windows: Windows, firings: Firings, length: int, rows: NDArray[np.int64] | None = None, size: int | None = None
) -> NDArray[np.float32]:
    """The activations on each position of each window, float32 `[windows, positions]`, zero where silent.

    With `rows` the windows go to those rows of `size` ones, `[size, positions]`; the others are zero.
    """
    counts = windows.stop - windows.first
    # the k-th firing of a window is the k-th after its first
    ends = counts.cumsum()
    every = np.arange(ends[-1] if len(ends) else 0)
    source = every + (windows.first - ends + counts).repeat(counts)
    # from a position in the store to one in the rows: a window's first becomes its row's first
    shift = (np.arange(len(windows)) if rows is None else rows) * length - windows.starts
    dense = np.zeros((len(windows) if size is None else size, length), dtype=np.float32)
    dense.reshape(-1)[firings.positions[source] + shift.repeat(counts)] = firings.values[source]
    return dense


def contained(items: NDArray[Any], ascending: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each item is in a sorted array; bool, of the shape of `items`."""
    if not len(ascending):
        return np.zeros(items.shape, dtype=bool)
    places = np.minimum(np.searchsorted(ascending, items), len(ascending) - 1)
    return ascending[places] == items


def _changes(ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which numbers differ from the one before; the first one does."""
    new = np.empty(len(ascending), dtype=bool)
    new[:1] = True
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:])
    return new
