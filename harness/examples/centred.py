"""Centred windows: a peak of the latent's activation stands at a set place of each; silent ones lie in the same way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.examples.windows import Windows
from harness.store import Firings

__all__ = ["Centring"]


@dataclass(frozen=True, slots=True, eq=False)
class Centring:
    """How windows of `length` tokens lie around a position: it stands at place `peak`, from 0.

    A window that would reach beyond its context or document, or into one that was chosen before, is moved until it
    does not, so that nothing is lost at edges. `documents` is int32 `[contexts, positions]`, -1 for what was put in.
    """

    length: int
    peak: int
    documents: NDArray[np.int32]

    def activating(self, firings: Firings) -> tuple[Windows, NDArray[np.int32], int]:
        """Windows around peaks, the strongest first; no two overlap, and none holds two documents.

        A firing inside an earlier window is not a peak of its own.

        Returns:
            The windows by position, the document of each, and how many firings had no room for a window.
        """
        taken, starts, lost = _Taken(self.length), [], 0
        context = self.documents.shape[1]
        for position in firings.positions[np.argsort(-firings.values, kind="stable")].tolist():
            row, at = divmod(position, context)
            if taken.holds(row, at):
                continue
            if (start := self._start(taken, row, at)) is None:
                lost += 1
                continue
            taken.add(row, start)
            starts.append(row * context + start)
        ordered = np.sort(np.array(starts, dtype=np.int64))
        first = np.searchsorted(firings.positions, ordered)
        stop = np.searchsorted(firings.positions, ordered + self.length)
        maxima = np.array([firings.values[a:b].max() for a, b in zip(first, stop, strict=True)], dtype=np.float32)
        own = self.documents.reshape(-1)[ordered[:, None] + np.arange(self.length)].max(axis=1, initial=-1)
        return Windows(ordered, maxima, first, stop), own, lost

    def silent(self, positions: Iterable[int], firings: Firings, count: int) -> NDArray[np.int64]:
        """The starts of up to `count` windows around some positions, in their order, that hold no firing.

        They lie as windows around peaks do, so that where a window lies tells nothing; no two overlap.
        """
        taken, starts = _Taken(self.length), []
        context = self.documents.shape[1]
        for position in positions:
            if len(starts) == count:
                break
            row, at = divmod(position, context)
            if taken.holds(row, at) or (start := self._start(taken, row, at)) is None:
                continue
            first, stop = np.searchsorted(
                firings.positions, (row * context + start, row * context + start + self.length)
            )
            if first == stop:
                taken.add(row, start)
                starts.append(row * context + start)
        return np.array(starts, dtype=np.int64)

    def _start(self, taken: _Taken, row: int, at: int) -> int | None:
        """Where the window around a place of a context begins, None where there is no room."""
        documents = self.documents[row]
        low, high = taken.room(row, at, len(documents))
        near = documents[low:high]
        foreign = np.flatnonzero((near != documents[at]) & (near >= 0)) + low
        low = max([low, *(foreign[foreign < at] + 1)[-1:].tolist()])
        high = min([high, *foreign[foreign > at][:1].tolist()])
        return min(max(at - self.peak, low), high - self.length) if high - low >= self.length else None


class _Taken:
    """The windows chosen so far, by context."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._starts: dict[int, list[int]] = {}

    def add(self, row: int, start: int) -> None:
        self._starts.setdefault(row, []).append(start)

    def holds(self, row: int, at: int) -> bool:
        return any(start <= at < start + self._length for start in self._starts.get(row, ()))

    def room(self, row: int, at: int, context: int) -> tuple[int, int]:
        """The stretch around a free place that no window takes, of less than a window on either side."""
        starts = self._starts.get(row, ())
        low = max([0, at - self._length + 1, *(start + self._length for start in starts if start <= at)])
        high = min([context, at + self._length, *(start for start in starts if start > at)])
        return low, high
