"""Passes over prefixes that begin alike, as few-shot prompts do: their common beginning is computed once and kept."""

from __future__ import annotations

import copy
from typing import Any

import torch

from harness.clients.local.forward import Forward

__all__ = ["Prefixes"]

# tokens from which on a common beginning is kept: a pass over fewer costs little more than the call
_LEAST = 32


class Prefixes:
    """Reads prefixes one by one, and keeps keys and values of the beginning that two after one another had in common.

    It stays kept, one row of the model's cache, while prefixes go on beginning so, and others in between do not matter.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._last: tuple[int, ...] = ()
        self._stem: tuple[int, ...] = ()
        self._kept: Any = None

    def read(self, prefix: tuple[int, ...]) -> tuple[torch.Tensor, Any]:
        """Logits after a prefix, float32 `[1, vocabulary]`, and its cache, which is the caller's own."""
        # something has to be left to read after it
        common = min(_common(self._last, prefix), len(prefix) - 1)
        self._last = prefix
        begins = self._kept is not None and prefix[: len(self._stem)] == self._stem and len(self._stem) < len(prefix)
        # a stem that holds much less than it could was made of other prefixes
        if common >= _LEAST and not (begins and 2 * len(self._stem) >= common):
            self._stem = prefix[:common]
            self._kept = self._pass(self._stem, 0, None)[1]
            begins = True
        if not begins:
            return self._pass(prefix, 0, None)
        return self._pass(prefix, len(self._stem), copy.deepcopy(self._kept))

    def _pass(self, prefix: tuple[int, ...], start: int, cache: Any) -> tuple[torch.Tensor, Any]:
        """A pass over what follows the first `start` tokens, which the cache holds."""
        ids, mask = self._forward.padded([prefix], left=True)
        logits, cache = self._forward(ids[:, start:], mask, keep=1, cache=cache, use_cache=True)
        return logits[0], cache


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens both begin with."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)
