"""A shuffled stream of a hookpoint's activations: what a sparse autoencoder is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from harness.subject.hookpoints import Hookpoint
from harness.subject.tracing import Traced
from harness.values import seed_of

__all__ = ["ActivationStream", "is_held_out"]

# The shuffling buffer's memory; a corpus whose activations fit is read by the subject once.
_BUFFER_BYTES = 512 * 2**20
_HELD_OUT = 20

Batches = Callable[[], Iterator[tuple[NDArray[np.uint32], NDArray[np.int32]]]]


def is_held_out(document: int) -> bool:
    """Whether a document of that number in its corpus is kept from training: one in twenty, by a hash."""
    return seed_of("held-out", document) % _HELD_OUT == 0


class ActivationStream:
    """Activations at positions of documents, in random order, without end.

    The buffer is filled from the corpus and drawn from at random without replacement; at half it is filled up
    again. A corpus that fits is kept, and shuffled anew each time it is through.
    """

    def __init__(
        self, traced: Traced, hookpoint: Hookpoint, batches: Batches, seed: int, buffer_bytes: int = _BUFFER_BYTES
    ) -> None:
        self._traced = traced
        self._hookpoint = hookpoint
        self._batches = batches
        self._generator = torch.Generator().manual_seed(seed)
        self._bytes = buffer_bytes
        self._source: Iterator[torch.Tensor] | None = self._once()
        self._buffer = self._filled(next(self._source)[:0])
        self._complete = self._source is None
        self.collected = len(self._buffer)
        self._left = self._shuffled(len(self._buffer))

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean `[d]` of the buffer's activations, and the root of their mean variance (one number)."""
        mean = self._buffer.mean(0)
        return mean, (self._buffer - mean).square().mean().sqrt().clamp_min(1e-12)

    def draw(self, count: int) -> torch.Tensor:
        """The next activations, float32 `[count, d]`."""
        parts: list[torch.Tensor] = []
        missing = count
        while missing:
            if not self._complete and len(self._left) < len(self._buffer) // 2:
                self._refill()
            elif not len(self._left):
                self._left = self._shuffled(len(self._buffer))
            chosen, self._left = self._left[:missing], self._left[missing:]
            parts.append(self._buffer[chosen])
            missing -= len(chosen)
        return torch.cat(parts)

    def _refill(self) -> None:
        kept = self._buffer[self._left]
        if self._source is None:
            self._source = self._once()
        before = len(kept)
        self._buffer = self._filled(kept)
        self.collected += len(self._buffer) - before
        self._left = self._shuffled(len(self._buffer))

    def _filled(self, start: torch.Tensor) -> torch.Tensor:
        """`start` and as many more activations as the buffer holds, or the corpus has."""
        parts = [start]
        room = max(1, self._bytes // (4 * start.shape[1])) - len(start)
        while room > 0 and self._source is not None:
            found = next(self._source, None)
            if found is None:
                self._source = None
            else:
                parts.append(found)
                room -= len(found)
        return torch.cat(parts)

    def _once(self) -> Iterator[torch.Tensor]:
        """The corpus's activations batch by batch, float32 `[kept positions, d]`; an empty one comes first."""
        opened = False
        for tokens, documents in self._batches():
            ids = torch.from_numpy(tokens.astype(np.int64))
            hidden = self._traced.collect(ids, [self._hookpoint])[self._hookpoint]
            flat = hidden.reshape(-1, hidden.shape[-1]).float()
            if not opened:
                opened = True
                yield flat[:0]
            yield flat[torch.from_numpy(np.flatnonzero(documents.reshape(-1) >= 0)).to(flat.device)]

    def _shuffled(self, count: int) -> torch.Tensor:
        return torch.randperm(count, generator=self._generator).to(self._buffer.device)
