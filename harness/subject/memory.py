"""Batches that do not fit into memory: told from other errors, halved, and remembered."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from harness.errors import SubjectError

__all__ = ["Halved", "Halving", "is_out_of_memory"]

T = TypeVar("T")

# how allocators that raise a plain RuntimeError (CPU, MPS) begin their complaint
_WORDS = ("not enough memory", "can't allocate memory", "out of memory")


@dataclass(frozen=True, slots=True)
class Halved:
    """Contexts `start` to `stop` (exclusive) were read in batches of at most `batch`, for want of memory."""

    start: int
    stop: int
    batch: int


class Halving:
    """Does a batch whole where it fits and in halves, quarters, ... where it does not.

    What fitted once is kept to: each attempt that fails costs as much time as it took to fail.
    """

    def __init__(self) -> None:
        self._most: int | None = None
        self.halved: list[Halved] = []

    def parts(self, work: Callable[[slice], T], contexts: int, first: int) -> Iterator[T]:
        """What `work` gives for each part of a batch of `contexts`, of which the first is context `first`.

        Raises:
            SubjectError: a single context does not fit.
        """
        start = 0
        while start < contexts:
            part = slice(start, min(contexts, start + (self._most or contexts)))
            done = _attempt(work, part)
            if done is None:
                self._halve(part.stop - part.start)
                continue
            yield done[0]
            start = part.stop
        if self._most is not None and self._most < contexts:
            self._note(Halved(first, first + contexts, self._most))

    def _halve(self, contexts: int) -> None:
        if contexts == 1:
            raise SubjectError(
                "a single context does not fit into memory: use a shorter subject.context, a narrower subject.dtype or "
                "fewer coders at once"
            )
        self._most = (contexts + 1) // 2

    def _note(self, found: Halved) -> None:
        before = self.halved[-1] if self.halved else None
        if before is not None and (before.stop, before.batch) == (found.start, found.batch):
            found = Halved(before.start, found.stop, found.batch)
            self.halved.pop()
        self.halved.append(found)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def _attempt(work: Callable[[slice], T], part: slice) -> tuple[T] | None:
    """What `work` gives, or None where memory did not suffice."""
    try:
        return (work(part),)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # only here, where the error no longer holds what it was raised among
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
