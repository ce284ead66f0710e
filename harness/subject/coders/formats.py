"""What every format of published coders has in common: what a reader is given, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import CoderError
from harness.subject.coders.files import ConfigFile, TensorFile
from harness.subject.coders.protocol import Claims

if TYPE_CHECKING:
    import torch

    from harness.subject.coders.sparse import SparseWeights

__all__ = ["Format", "Recognised", "has_settings", "number", "require", "whole"]

Tensors = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Recognised:
    """A coder in a format that is known.

    `config` is the settings file that was followed, None where the tensors say all. `transcoder` is None where the
    files do not tell. `build` takes the tensors named by `names`, float32.
    """

    config: Path | None
    names: tuple[str, ...]
    d_in: int
    d_out: int
    n_latents: int
    build: Callable[[Tensors], SparseWeights]
    claims: Claims
    transcoder: bool | None = False


@dataclass(frozen=True, slots=True)
class Format:
    """A format by its name, by what tells it from others, and its reader.

    `read` gives None for files that are not of the format, and raises CoderError for those that are and cannot be used.
    """

    name: str
    signs: str
    read: Callable[[TensorFile, tuple[ConfigFile, ...]], Recognised | None]


def has_settings(file: TensorFile, configs: tuple[ConfigFile, ...]) -> bool:
    """Whether settings lie beside a file of tensors: what follows none of them would read it wrong in silence."""
    return any(config.path.parent == file.path.parent for config in configs)


def require(file: TensorFile, wanted: Mapping[str, tuple[int, ...]], why: str = "") -> None:
    """Refuse a file that lacks a tensor, or has it in another shape than `why` makes it.

    Raises:
        CoderError: naming the tensor.
    """
    for name, shape in wanted.items():
        if name not in file.shapes:
            known = ", ".join(sorted(file.shapes)) or "none"
            raise CoderError(f'{file.path}: the tensor "{name}" is missing; there are: {known}')
        if tuple(file.shapes[name]) != shape:
            reason = f", and {why} wants" if why else "; beside the other tensors it has to be"
            raise CoderError(f"{file.path}: {name} has shape {list(file.shapes[name])}{reason} {list(shape)}")


def whole(path: Path, raw: Mapping[str, Any], key: str) -> int:
    """A whole number above 0.

    Raises:
        CoderError: it is missing or something else.
    """
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CoderError(f"{path}: {key} has to be a whole number above 0, not {value!r}")
    return value


def number(path: Path, raw: Mapping[str, Any], key: str) -> float:
    """A number above 0.

    Raises:
        CoderError: it is missing or something else.
    """
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise CoderError(f"{path}: {key} has to be a number above 0, not {value!r}")
    return float(value)
