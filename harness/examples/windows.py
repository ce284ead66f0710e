"""Windows on a grid: where a latent is active, how strongly, and which runs of tokens they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.store import Firings

__all__ = [
    "RUN",
    "Runs",
    "Windows",
    "activating_windows",
    "contained",
    "dense_activations",
    "run_hashes",
]

RUN: Final = 16
_BASE: Final = 0x9E3779B97F4A7C15 | 1
_BITS: Final = 16
_REST: Final = np.uint64(64 - _BITS)


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
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return Windows(self.starts[places], self.maxima[places], self.first[places], self.stop[places])


def activating_windows(firings: Firings, length: int) -> Windows:
    """The distinct windows of the grid from the store's start with any firing, and the maximum of each."""
    ids = firings.positions // length
    first = np.flatnonzero(_changes(ids))
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


def run_hashes(tokens: NDArray[np.uint32], run: int = RUN) -> NDArray[np.uint64]:
    """A 64-bit hash of every run of that many tokens, uint64 `[windows, positions - run + 1]`.

    Equal runs have equal hashes wherever they stand. A window shorter than the run counts as one run.
    """
    length = tokens.shape[1]
    run = min(run, length)
    # all rows as one line: what reaches over the end of a row is cut off at last
    hashes, size = _spread(tokens).reshape(-1), 1
    while 2 * size <= run:
        hashes, size = _joined(hashes, size), 2 * size
    if size < run:
        hashes = _joined(hashes, run - size)
    return hashes.reshape(-1, length)[:, : length - run + 1]


class Runs:
    """The runs of tokens in some windows, to ask which other windows share one.

    `tokens` is uint32 `[windows, positions]`.
    """

    def __init__(self, tokens: NDArray[np.uint32]) -> None:
        self._hashes = np.sort(run_hashes(tokens), axis=None) if len(tokens) else np.empty(0, dtype=np.uint64)
        # whether any hash begins with these bits: nearly all others are told to be new without a search
        self._beginnings = np.zeros(1 << _BITS, dtype=bool)
        self._beginnings[self._hashes >> _REST] = True

    def in_windows(self, tokens: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which windows, uint32 `[windows, positions]`, have any of the runs; bool `[windows]`."""
        hashes = run_hashes(tokens)
        found = self._beginnings[hashes >> _REST]
        found[found] = contained(hashes[found], self._hashes)
        return np.logical_or.reduce(found, axis=1)


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


def _joined(hashes: NDArray[np.uint64], after: int) -> NDArray[np.uint64]:
    """Each hash with the one that begins so many positions after; a factor of its own tells the two apart."""
    out = hashes * np.uint64(pow(_BASE, after, 1 << 64))
    out[: len(out) - after] += hashes[after:]
    return out


def _changes(ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which numbers differ from the one before; the first one does."""
    new = np.empty(len(ascending), dtype=bool)
    new[:1] = True
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:])
    return new
