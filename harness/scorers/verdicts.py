"""A scorer's verdicts on the examples of one score: columns of arrays, packed small for the journal."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from harness.values import Example, FailureStatus

__all__ = ["FAILURES", "Verdicts"]

# what a verdict's `failure` byte says: 0 is none, n the n-th of these; new ones go to the end
FAILURES: tuple[FailureStatus, ...] = get_args(FailureStatus)


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """Verdicts by column, all `[examples]`.

    `context` and `start` say which window, `truth` whether 1 is right, `quantile` 1 to 10 or 0 where it
    is not. `label` is 0 or 1, -1 where there is no verdict; `probability` of 1 in [0, 1], NaN where it is
    not known. `failure` says why there is no verdict: 0 is none, n is `FAILURES[n - 1]`.
    """

    context: NDArray[np.uint32]
    start: NDArray[np.uint16]
    truth: NDArray[np.uint8]
    quantile: NDArray[np.uint8]
    label: NDArray[np.int8]
    probability: NDArray[np.float32]
    failure: NDArray[np.uint8]

    @classmethod
    def of(
        cls,
        examples: Sequence[Example],
        labels: Sequence[int],
        probabilities: Sequence[float | None],
        failures: Sequence[FailureStatus | None],
    ) -> Verdicts:
        """Verdicts on examples, in their order; a label of -1 goes with a failure."""
        places = [example.passage.place for example in examples]
        return cls(
            np.array([place.context if place else 0 for place in places], np.uint32),
            np.array([place.start if place else 0 for place in places], np.uint16),
            np.array([example.activating for example in examples], np.uint8),
            np.array([example.quantile or 0 for example in examples], np.uint8),
            np.array(labels, np.int8),
            np.array([np.nan if p is None else p for p in probabilities], np.float32),
            np.array([0 if f is None else FAILURES.index(f) + 1 for f in failures], np.uint8),
        )

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which examples have a verdict."""
        return self.label >= 0

    def failures(self) -> Counter[FailureStatus]:
        """How many verdicts are missing, by reason."""
        return Counter(FAILURES[code - 1] for code in self.failure.tolist() if code)

    def pack(self) -> bytes:
        """All columns as one compressed array."""
        return zlib.compress(b"".join([np.uint32(len(self)).tobytes(), *(c.tobytes() for c in self._columns())]))

    @classmethod
    def unpack(cls, blob: bytes) -> Verdicts:
        """What `pack` gave."""
        data = zlib.decompress(blob)
        count = int(np.frombuffer(data, np.uint32, 1)[0])
        columns: list[NDArray] = []
        at = 4
        for dtype in _DTYPES:
            columns.append(np.frombuffer(data, dtype, count, at))
            at += count * np.dtype(dtype).itemsize
        return cls(*columns)

    def _columns(self) -> tuple[NDArray, ...]:
        return (self.context, self.start, self.truth, self.quantile, self.label, self.probability, self.failure)


_DTYPES = (np.uint32, np.uint16, np.uint8, np.uint8, np.int8, np.float32, np.uint8)
