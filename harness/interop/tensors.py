"""Tensors of a safetensors file as arrays of which only the parts that are asked for are read."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from harness.errors import FormatError

__all__ = ["Tensor", "open_tensors"]


class Tensor:
    """One tensor of an open file; slices of its first dimension are read as NumPy slices them."""

    def __init__(self, part: Any) -> None:
        self._part = part
        self.shape: tuple[int, ...] = tuple(part.get_shape())
        self.dtype: str = part.get_dtype()

    def __getitem__(self, wanted: slice) -> NDArray[Any]:
        start, stop, _ = wanted.indices(self.shape[0])
        if start >= stop:
            # of nothing the library tells no type, and nobody asks for one
            return np.empty((0, *self.shape[1:]), dtype=np.int64)
        return self._part[start:stop]


def open_tensors(path: Path, stack: ExitStack) -> dict[str, Tensor]:
    """The tensors of a file that stays open as long as the stack.

    Raises:
        FormatError: the file is broken.
    """
    try:
        file = stack.enter_context(safe_open(path, framework="numpy"))
        return {name: Tensor(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path}: this file is broken or cut short: {error}") from error
