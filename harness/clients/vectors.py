"""Embeddings as a reply carries them: rows of float32 in few bytes, which compare and travel like any other value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Vectors"]

_FLOAT = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of `width` numbers each, one after the other in `data` as little-endian float32."""

    width: int
    data: bytes

    @classmethod
    def of(cls, rows: Sequence[Sequence[float] | NDArray[np.floating]] | NDArray[np.floating]) -> Vectors:
        """Vectors by row.

        Raises:
            ValueError: there are none, their widths differ, or a number is not finite.
        """
        array = np.array(rows, _FLOAT)
        if array.ndim != 2 or not array.size:
            raise ValueError("no rows of numbers")
        if not np.isfinite(array).all():
            raise ValueError("a number is not finite")
        return cls(array.shape[1], array.tobytes())

    def __len__(self) -> int:
        return len(self.data) // (self.width * _FLOAT.itemsize)

    @property
    def array(self) -> NDArray[np.float32]:
        """Them as an array `[vectors, width]` that cannot be written to."""
        return np.frombuffer(self.data, _FLOAT).reshape(-1, self.width)
