"""What a writer holds in memory of one coder: rows packed as they will be stored, until a segment is full."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError
from harness.store.format import CoderManifest, Rows
from harness.store.segments import Columns, sort_by_latent

__all__ = ["Buffer"]


class Buffer:
    """Rows of one coder since the last segment; its memory is used again for the next one."""

    def __init__(self, coder: CoderManifest, value_dtype: np.dtype[Any]) -> None:
        self._coder = coder
        self._latents: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self._values: NDArray[Any] = np.empty(0, dtype=value_dtype)
        self.clear()

    def __len__(self) -> int:
        return self._size

    def append(self, part: Rows) -> None:
        """Add rows.

        Raises:
            ValueError: a value is not finite or not above zero, or a latent is out of range.
            StoreError: a value does not fit float16.
        """
        latents, values = np.asarray(part.latents), np.asarray(part.values)
        stop = self._size + len(latents)
        if len(latents):
            self._check(latents, values)
            self._reserve(stop)
            self._latents[self._size : stop] = latents
            self._narrow(values, self._values[self._size : stop])
        self._edges.append(np.asarray(part.indptr[1:], dtype=np.int64) + self._size)
        self._size = stop

    def columns(self, first: int) -> Columns:
        """Everything held, sorted by latent; `first` is the position of the first row.

        Raises:
            ValueError: a latent fires twice at one position.
        """
        indptr = np.concatenate([np.zeros(1, dtype=np.int64), *self._edges])
        held = slice(0, self._size)
        return sort_by_latent(indptr, self._latents[held], self._values[held], self._coder.n_latents, first)

    def clear(self) -> None:
        """Forget everything."""
        self._size = 0
        self._edges: list[NDArray[np.int64]] = []

    def _check(self, latents: NDArray[Any], values: NDArray[Any]) -> None:
        if latents.min() < 0 or latents.max() >= self._coder.n_latents:
            raise ValueError(f'rows of "{self._coder.name}" have a latent outside 0 to {self._coder.n_latents - 1}')
        # a NaN is the minimum and the maximum of what it is in, and compares false
        if not (values.min() > 0 and values.max() < np.inf):
            raise ValueError(f'rows of "{self._coder.name}" have a value that is not finite or not above zero')

    def _reserve(self, size: int) -> None:
        if size > len(self._latents):
            room = max(size, 2 * len(self._latents))
            for name in ("_latents", "_values"):
                before = getattr(self, name)
                after = np.empty(room, dtype=before.dtype)
                after[: self._size] = before[: self._size]
                setattr(self, name, after)

    def _narrow(self, values: NDArray[Any], out: NDArray[Any]) -> None:
        # the cast itself is silent; what it loses is looked at below
        with np.errstate(over="ignore", under="ignore"):
            out[:] = values
        # as integers, which order as the positive floats they stand for, and many times as fast as float16
        bits = out.view(np.uint16 if out.dtype.itemsize == 2 else np.uint32)
        if bits.max() >= np.array(np.inf, dtype=out.dtype).view(bits.dtype):
            raise StoreError(
                f'coder "{self._coder.name}" has an activation of {float(values.max()):g}, too large for float16: '
                'collect with value_dtype = "float32" under [subject]'
            )
        # what fires keeps firing, however weakly: zero becomes the smallest number there is
        np.maximum(bits, 1, out=bits)
