"""Hookpoints: a module of the subject by its exact path, its input or its output, and what that holds."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import HookpointError

if TYPE_CHECKING:
    import torch

__all__ = ["Hookpoint", "check_path", "first", "put"]

_NEAR = 3


@dataclass(frozen=True, slots=True)
class Hookpoint:
    """A module's path inside the Hugging Face model, and whether its input is meant instead of its output."""

    path: str
    input: bool = False

    def __str__(self) -> str:
        return f"{self.path}:input" if self.input else self.path


def check_path(path: str, modules: Iterable[str]) -> None:
    """Refuse a path that is not exactly a module's.

    Raises:
        HookpointError: with near matches, those that end in the path first.
    """
    known = [name for name in modules if name]
    if path in known:
        return
    near = _near(path, known)
    hint = "did you mean " + " or ".join(f'"{name}"' for name in near) + "?" if near else _outline(known)
    raise HookpointError(f'hookpoint "{path}": the subject has no module of that path; {hint}')


def first(value: Any) -> torch.Tensor:
    """The hidden state of a module's output: the tensor itself, or the first of a tuple.

    Raises:
        HookpointError: it is neither.
    """
    import torch

    found = value[0] if isinstance(value, (tuple, list)) and len(value) else value
    if not isinstance(found, torch.Tensor):
        raise HookpointError(f"a hookpoint has to give a tensor, and this one gives {type(found).__name__}")
    return found


def put(value: Any, hidden: torch.Tensor) -> Any:
    """The module's output with its hidden state replaced; inverts `first`."""
    if isinstance(value, tuple):
        return (hidden, *value[1:])
    return [hidden, *value[1:]] if isinstance(value, list) else hidden


def _near(path: str, known: list[str]) -> list[str]:
    """Paths that end in this one, then paths that differ only in the number, then those spelled alike."""
    ending = [name for name in known if name.endswith(f".{path}")]
    if ending:
        return ending[:_NEAR]
    same = [name for name in known if re.sub(r"\d+", "#", name) == re.sub(r"\d+", "#", path)]
    if same:
        return [*dict.fromkeys((same[0], same[-1]))]
    return difflib.get_close_matches(path, known, _NEAR, 0.6)


def _outline(known: list[str]) -> str:
    """The kinds of paths that there are, numbers as N, the shortest first."""
    kinds = dict.fromkeys(re.sub(r"\d+", "N", name) for name in known)
    return "there are " + ", ".join(sorted(kinds, key=lambda name: (name.count("."), name))[:8])
