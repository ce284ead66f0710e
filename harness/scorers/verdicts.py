"""A scorer's verdicts on the examples of one score: columns of arrays, packed small for the journal."""

from __future__ import annotations

import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from harness.values import Example, FailureStatus

__all__ = ["FAILURES", "NOWHERE", "Tallies", "Verdicts"]

# what a verdict's `failure` byte says: 0 is none, n the n-th of these; new ones go to the end
FAILURES: tuple[FailureStatus, ...] = get_args(FailureStatus)
# the context of an example that stands in no store
NOWHERE = 2**32 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """Verdicts by column, `[examples]` where nothing else is said.

    `context` and `start` say which window (`NOWHERE` for text of no store), `truth` whether 1 is right, `quantile` 1 to
    10 or 0 where it is not. `label` is 0 or 1, -1 where none was given; `probability` of 1 in [0, 1], NaN where it is
    not known. `failure` says why there is no verdict: 0 is none, n is `FAILURES[n - 1]`.

    `value` is a number that orders examples, higher for those that fit better, NaN where there is none. `predicted` and
    `actual` are strengths `[examples, positions]`, 0 to 10, NaN where there is none; of no positions where strengths
    were not asked for.
    """

    context: NDArray[np.uint32]
    start: NDArray[np.uint16]
    truth: NDArray[np.uint8]
    quantile: NDArray[np.uint8]
    label: NDArray[np.int8]
    probability: NDArray[np.float32]
    failure: NDArray[np.uint8]
    value: NDArray[np.float32]
    predicted: NDArray[np.float16]
    actual: NDArray[np.float16]

    @classmethod
    def of(
        cls,
        examples: Sequence[Example],
        labels: Sequence[int] | None = None,
        probabilities: Sequence[float | None] | None = None,
        failures: Sequence[FailureStatus | None] | None = None,
        *,
        values: Sequence[float] | NDArray[np.floating] | None = None,
        predicted: NDArray[np.floating] | None = None,
        actual: NDArray[np.floating] | None = None,
    ) -> Verdicts:
        """Verdicts on examples, in their order; what is left out was not given."""
        count, nothing = len(examples), np.empty((len(examples), 0))
        places = [example.passage.place for example in examples]
        return cls(
            np.array([place.context if place else NOWHERE for place in places], np.uint32),
            np.array([place.start if place else 0 for place in places], np.uint16),
            np.array([example.activating for example in examples], np.uint8),
            np.array([example.quantile or 0 for example in examples], np.uint8),
            np.array([-1] * count if labels is None else labels, np.int8),
            np.array([np.nan if p is None else p for p in probabilities or [None] * count], np.float32),
            np.array([0 if f is None else FAILURES.index(f) + 1 for f in failures or [None] * count], np.uint8),
            np.array([np.nan] * count if values is None else values, np.float32),
            np.array(nothing if predicted is None else predicted, np.float16),
            np.array(nothing if actual is None else actual, np.float16),
        )

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which examples have a verdict."""
        return self.failure == 0

    @property
    def labels(self) -> NDArray[np.float64]:
        """The labels, `[examples]`, NaN where there is none."""
        return np.where(self.label < 0, np.nan, self.label).astype(np.float64)

    @property
    def scores(self) -> NDArray[np.float64] | None:
        """What orders the examples, `[examples]`: values or probabilities; None unless every verdict has one."""
        for column in (self.value, self.probability):
            if self.answered.any() and np.isfinite(column[self.answered]).all():
                return column.astype(np.float64)
        return None

    def answers(self) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Labels, and `scores` by rank in (0, 1], `[examples]` each: what figures are computed from.

        Ranks are in the same order, which is all that AUROC and average precision see; NaN stays. None for labels where
        none was given, and for ranks where there are no scores.
        """
        from scipy.stats import rankdata  # here because importing it takes longer than a command that needs none

        labels = None if (self.label < 0).all() else self.labels
        scores = self.scores
        return labels, None if scores is None else rankdata(scores, "dense", nan_policy="omit") / len(scores)

    def failures(self) -> Counter[FailureStatus]:
        """How many verdicts are missing, by reason."""
        return Counter(FAILURES[code - 1] for code in self.failure.tolist() if code)

    def pack(self) -> bytes:
        """All columns as one compressed array; values and strengths only where there are any."""
        parts = [np.uint32(len(self)).tobytes(), *(column.tobytes() for column in self._columns())]
        positions = self.predicted.shape[1]
        if positions or np.isfinite(self.value).any():
            parts += [np.uint32(positions).tobytes(), self.value.tobytes()]
            parts += [strengths.tobytes() for strengths in (self.predicted, self.actual)]
        return zlib.compress(b"".join(parts))

    @classmethod
    def unpack(cls, blob: bytes) -> Verdicts:
        """What `pack` gave."""
        data = zlib.decompress(blob)
        count = int(np.frombuffer(data, np.uint32, 1)[0])
        columns: list[Any] = []
        at = 4
        for dtype in _DTYPES:
            columns.append(np.frombuffer(data, dtype, count, at))
            at += count * np.dtype(dtype).itemsize
        value, strengths = np.full(count, np.nan, np.float32), np.empty((2, count, 0), np.float16)
        if at < len(data):
            positions = int(np.frombuffer(data, np.uint32, 1, at)[0])
            value = np.frombuffer(data, np.float32, count, at + 4)
            strengths = np.frombuffer(data, np.float16, 2 * count * positions, at + 4 * (count + 1))
        columns += [value, *strengths.reshape(2, count, -1 if count else 0)]
        return cls(*columns)

    @staticmethod
    def tally(blobs: Sequence[bytes], quantiles: int) -> Tallies:
        """What `pack` gave for many scores, counted; of quantiles from 1 to `quantiles`."""
        parts: list[list[bytes]] = [[], [], [], []]
        sizes = np.empty(len(blobs), np.int64)
        for row, blob in enumerate(blobs):
            data = zlib.decompress(blob)
            count = sizes[row] = int.from_bytes(data[:4], sys.byteorder)
            for part, (before, _) in zip(parts, _COUNTED, strict=True):
                part.append(data[4 + before * count : 4 + (before + 1) * count])
        truth, quantile, label, failure = (
            np.frombuffer(b"".join(part), dtype) for part, (_, dtype) in zip(parts, _COUNTED, strict=True)
        )
        row = np.repeat(np.arange(len(blobs)), sizes)
        given, answered = label >= 0, failure == 0
        right = given & (label == truth)
        # the place of silent windows is 0, that of all that fire the last
        by = quantile.astype(np.int64)
        fires = truth == 1

        def counted(which: NDArray[np.bool_], columns: int, column: NDArray[np.int64]) -> NDArray[np.int64]:
            flat = np.bincount((row * columns + column)[which], minlength=len(blobs) * columns)
            return flat.reshape(len(blobs), columns)

        def sides(which: NDArray[np.bool_]) -> NDArray[np.int64]:
            inner = counted(which & (by > 0) & (by <= quantiles), quantiles + 1, by)
            silent, firing = (counted(which & side, 1, 0 * by) for side in (~fires, fires))
            return np.concatenate([silent, inner[:, 1:], firing], axis=1)

        failures = counted(~answered, len(FAILURES) + 1, failure.astype(np.int64))[:, 1:]
        n_pos = counted(fires, 1, 0 * by)[:, 0]
        return Tallies(n_pos, sizes - n_pos, failures, sides(given), sides(right), sides(answered))

    def _columns(self) -> tuple[NDArray, ...]:
        return (self.context, self.start, self.truth, self.quantile, self.label, self.probability, self.failure)


@dataclass(frozen=True, slots=True, eq=False)
class Tallies:
    """Verdicts counted, a row a score.

    `n_pos` and `n_neg` are the examples of either truth and `failures` `[scores, FAILURES]` the missing verdicts by
    reason. `given` (a label), `right` (the right one) and `answered` are `[scores, 1 + quantiles + 1]`: silent
    windows, those of each quantile, and all that fire.
    """

    n_pos: NDArray[np.int64]
    n_neg: NDArray[np.int64]
    failures: NDArray[np.int64]
    given: NDArray[np.int64]
    right: NDArray[np.int64]
    answered: NDArray[np.int64]


# columns that are counted: the bytes of an example that stand before them, and their type
_COUNTED = ((6, np.uint8), (7, np.uint8), (8, np.int8), (13, np.uint8))
_DTYPES = (np.uint32, np.uint16, np.uint8, np.uint8, np.int8, np.float32, np.uint8)
