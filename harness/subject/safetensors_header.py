"""The header of a safetensors file: which tensors it holds, and whether the file is whole."""

from __future__ import annotations

import json
from pathlib import Path

from harness.errors import CoderError

__all__ = ["tensor_shapes"]

# The format allows no longer header.
_LONGEST = 100_000_000


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Each tensor's shape, read from the header alone.

    Raises:
        CoderError: the file is truncated or no safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= _LONGEST:
            raise CoderError(f"{path}: not a safetensors file, or a truncated one ({size} bytes)")
        text = file.read(length)
    if len(text) < length:
        raise CoderError(
            f"{path}: this safetensors file is truncated: its header has {length} bytes and {size} are here"
        )
    try:
        header = json.loads(text)
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CoderError(f"{path}: not a safetensors file: its header is broken") from error
    if size != 8 + length + end:
        what = "truncated" if size < 8 + length + end else "longer than it says"
        raise CoderError(f"{path}: this safetensors file is {what}: {8 + length + end} bytes expected, {size} found")
    return shapes
