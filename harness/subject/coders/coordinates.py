"""Coordinates of activations as sparse latents."""

from __future__ import annotations

import numpy as np
import torch

from harness.store.format import Rows
from harness.subject.coders.protocol import CoderInfo
from harness.subject.coders.tiles import Found, TiledEncoder

__all__ = ["CoordinateCoder"]


class CoordinateCoder(TiledEncoder):
    """Every coordinate above zero, or the magnitude of every one; with `k`, the k largest of each row."""

    decoder = None

    def __init__(self, info: CoderInfo, device: str = "cpu", k: int | None = None, *, absolute: bool = False) -> None:
        super().__init__(info, device)
        self._k = k
        self._absolute = absolute

    @torch.no_grad()
    def decode(self, rows: Rows, activations: torch.Tensor) -> torch.Tensor:
        """The coordinates that fired, float32 `[n, d]`; those that did not are zero."""
        inputs = activations.to(self.device, torch.float32)
        at = torch.from_numpy(np.repeat(np.arange(len(rows.indptr) - 1), np.diff(rows.indptr))).to(self.device)
        latents = torch.from_numpy(rows.latents.astype(np.int64)).to(self.device)
        found = torch.zeros_like(inputs)
        found[at, latents] = inputs[at, latents]
        return found

    def _prepared(self, activations: torch.Tensor) -> torch.Tensor:
        return activations.abs() if self._absolute else activations

    def _tile(self, inputs: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        return inputs[:, start:stop]

    def _firing(self, inputs: torch.Tensor) -> Found:
        return self._above(inputs) if self._k is None else self._top(inputs, self._k)
