"""Runs of tokens that a store has more than once: where each begins, so that windows which share one are found."""

from __future__ import annotations

import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError
from harness.examples.windows import contained
from harness.store import Store
from harness.store.files import HEADER, keep_beside, open_array

__all__ = ["RUN", "Repeats", "repeats_of", "run_hashes"]

RUN: Final = 16
# hashes that are sorted together: 256 MiB, and as much to compare them
_MOST: Final = 1 << 25
_CHUNK: Final = 4096
# runs whose positions are looked at together
_PART: Final = 1 << 18
_BASE: Final = 0x9E3779B97F4A7C15 | 1
# of a hash, the bits that tell for nearly all runs, without a search, that the store has them once
_BITS: Final = 22
_REST: Final = np.uint64(64 - _BITS)


class Repeats:
    """Where runs of `run` tokens begin that the store has elsewhere too.

    `starts` are uint32, ascending; `numbers` uint32, as many, equal where the runs are.
    """

    def __init__(self, run: int, starts: NDArray[np.uint32], numbers: NDArray[np.uint32]) -> None:
        self._run, self._starts, self._numbers = run, starts, numbers

    def inside(self, windows: NDArray[np.int64], length: int) -> NDArray[np.uint32]:
        """The distinct numbers of the repeated runs in windows of that length, given by their starts; ascending."""
        places = self._places(windows, length)[0]
        return np.unique(self._numbers[places]) if len(places) else np.empty(0, dtype=np.uint32)

    def of(self, wanted: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> NDArray[np.uint32]:
        """The distinct numbers of the repeated runs whose positions, int64 `[runs, run]`, are wanted; ascending."""
        found = [np.empty(0, dtype=np.uint32)]
        for low in range(0, len(self._starts), _PART):
            positions = self._starts[low : low + _PART].astype(np.int64)[:, None] + np.arange(self._run)
            found.append(np.unique(self._numbers[low : low + _PART][wanted(positions)]))
        return np.unique(np.concatenate(found))

    def shared(self, windows: NDArray[np.int64], length: int, numbers: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which windows hold any of the runs of these ascending numbers; bool `[windows]`."""
        shared = np.zeros(len(windows), dtype=bool)
        if len(numbers):
            places, owners = self._places(windows, length)
            shared[owners[contained(self._numbers[places], numbers)]] = True
        return shared

    def _places(self, windows: NDArray[np.int64], length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The places in the list of all runs that begin in some windows, and which window each is in."""
        if not len(self._starts):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        # of the list's own type, or all of it would be converted
        wanted = windows.astype(self._starts.dtype)
        first = self._starts.searchsorted(wanted)
        counts = self._starts.searchsorted(wanted + self._starts.dtype.type(length - self._run), side="right") - first
        owners = np.arange(len(windows)).repeat(counts)
        before = counts.cumsum() - counts
        return np.arange(len(owners)) + (first - before)[owners], owners


_KNOWN: weakref.WeakKeyDictionary[Store, dict[int, Repeats]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def repeats_of(store: Store, window: int) -> Repeats:
    """A store's repeated runs of `RUN` tokens; of a whole window, where that is shorter.

    They are looked for once: from then on they lie in a file beside the store (in memory, where it cannot be written).
    """
    run = min(RUN, window)
    with _LOCK:
        known = _KNOWN.setdefault(store, {})
        if run not in known:
            known[run] = _opened(store, run) or _built(store, run)
        return known[run]


def run_hashes(tokens: NDArray[np.uint32], run: int) -> NDArray[np.uint64]:
    """A 64-bit hash of every run of that many tokens, uint64 `[rows, positions - run + 1]`.

    Equal runs have equal hashes wherever they stand.
    """
    length = tokens.shape[1]
    # all rows as one line: what reaches over the end of a row is cut off at last
    hashes, size = _spread(tokens).reshape(-1), 1
    while 2 * size <= run:
        hashes, size = _joined(hashes, size), 2 * size
    if size < run:
        hashes = _joined(hashes, run - size)
    return hashes.reshape(-1, length)[:, : length - run + 1]


def _name(store: Store, run: int) -> str:
    # after the content that it tells of, so that a stale file is never read
    return f"runs-{run}-{store.id[:12]}"


def _opened(store: Store, run: int) -> Repeats | None:
    for path in store.path.glob(f"{_name(store, run)}-*.npy"):
        try:
            found = open_array(path, "<u4", (2, (path.stat().st_size - HEADER) // 8))
        except (OSError, StoreError):
            continue
        # a run that is missed would be a window that is both shown and scored
        if f"{zlib.crc32(found.data):08x}" == path.stem[-8:]:
            return Repeats(run, *found)
    return None


def _built(store: Store, run: int) -> Repeats:
    again, starts, numbers = _hashes_again(store, run), [], []
    beginnings = np.zeros(1 << _BITS, dtype=bool)
    beginnings[again >> _REST] = True
    per_context = store.context_length - run + 1
    for low, hashes in _hashes(store, run):
        maybe = beginnings[hashes >> _REST].nonzero()[0]
        found = maybe[contained(hashes[maybe], again)]
        context, place = np.divmod(found, per_context)
        starts.append((low + context) * store.context_length + place)
        numbers.append(again.searchsorted(hashes[found]))
    found = np.array([np.concatenate(starts), np.concatenate(numbers)], dtype=np.uint32)
    keep_beside(store.path / f"{_name(store, run)}-{zlib.crc32(found.data):08x}.npy", found)
    return Repeats(run, *found)


def _hashes_again(store: Store, run: int) -> NDArray[np.uint64]:
    """The hashes that more than one run has, ascending; looked for in as many parts as keep memory bounded."""
    parts, again = -(-store.n_tokens // _MOST), []
    for part in range(parts):
        some: list[NDArray[np.uint64]] = []
        for _, hashes in _hashes(store, run):
            some.append(hashes if parts == 1 else hashes[_part_of(hashes, parts) == part])
        ordered = np.concatenate(some)
        some.clear()
        ordered.sort()
        again.append(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    return np.concatenate(again)


def _part_of(hashes: NDArray[np.uint64], parts: int) -> NDArray[np.uint64]:
    """Which of so many equal ranges each hash is in, from 0."""
    return (hashes >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)


def _hashes(store: Store, run: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """The hashes of some contexts after the other, `[runs]`, and the first of these contexts."""
    for low in range(0, store.n_contexts, _CHUNK):
        yield low, run_hashes(store.tokens[low : low + _CHUNK], run).reshape(-1)


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
