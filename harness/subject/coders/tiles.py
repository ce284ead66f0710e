"""Encoding in tiles, so that `[tokens, latents]` never exists as a whole: what fires, found tile by tile and merged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from harness.store.format import Rows
from harness.subject.coders.protocol import CoderInfo

__all__ = ["Found", "TiledEncoder"]

# A tile of float32 pre-activations is at most 2,048 x 8,192 x 4 B = 64 MiB.
_TOKENS = 2048
_LATENTS = 8192

Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Rows, latents and values of what fires."""

Pick = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


class TiledEncoder(ABC):
    """An encoder that gives its pre-activations a tile at a time, and picks from them what fires."""

    def __init__(self, info: CoderInfo, device: str = "cpu") -> None:
        self.info = info
        self.device = torch.device(device)

    @torch.no_grad()
    def encode(self, activations: torch.Tensor) -> Rows:
        """The active latents of each activation `[n, d_in]`, latents ascending within a row, values above zero.

        Where the k-th largest pre-activation is shared by several latents, the k largest are those of lower number.
        """
        parts = [self._encode(chunk) for chunk in activations.split(_TOKENS)]
        counts = [np.zeros(1, np.int64), *(counts for counts, _, _ in parts)]
        return Rows(
            np.cumsum(np.concatenate(counts)),
            np.concatenate([latents for _, latents, _ in parts] or [np.empty(0, np.int32)]),
            np.concatenate([values for _, _, values in parts] or [np.empty(0, np.float32)]),
        )

    @abstractmethod
    def _prepared(self, activations: torch.Tensor) -> torch.Tensor:
        """What tiles are made from, `[n, d_in]`, for activations in float32 on this device."""

    @abstractmethod
    def _tile(self, inputs: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Pre-activations of the latents from `start` to `stop`, `[n, stop - start]`."""

    @abstractmethod
    def _firing(self, inputs: torch.Tensor) -> Found:
        """What fires in one chunk of tokens, in any order."""

    def _encode(self, activations: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Counts per row, latents and values of one chunk of tokens."""
        inputs = self._prepared(activations.to(self.device, torch.float32))
        rows, latents, values = self._firing(inputs)
        order = torch.argsort(rows * self.info.n_latents + latents)
        counts = torch.bincount(rows, minlength=len(inputs))
        return (
            counts.cpu().numpy(),
            latents[order].to(torch.int32).cpu().numpy(),
            values[order].cpu().numpy(),
        )

    def _tiles(self, inputs: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """All pre-activations tile by tile, with the tile's first latent."""
        for start in range(0, self.info.n_latents, _LATENTS):
            yield start, self._tile(inputs, start, min(start + _LATENTS, self.info.n_latents))

    def _top(self, inputs: torch.Tensor, k: int) -> Found:
        """The k largest of each row that are above zero; rows in which the k-th is shared are done again in order."""
        # one more than wanted: where it equals the one before, which latents are kept is chance
        values, latents = self._largest(inputs, k + 1, _largest_of)
        values, order = values.sort(-1, descending=True)
        latents = latents.gather(-1, order)
        if values.shape[1] > k:
            shared = (values[:, k - 1] == values[:, k]) & (values[:, k] > 0)
            values, latents = values[:, :k], latents[:, :k]
            if bool(shared.any()):
                values[shared], latents[shared] = self._largest(inputs[shared], k, _first_largest_of)
        return self._positive(values, latents)

    def _largest(self, inputs: torch.Tensor, count: int, pick: Pick) -> tuple[torch.Tensor, torch.Tensor]:
        """The largest of each row as `pick` finds them in a tile, merged over tiles, and their latents."""
        values = inputs.new_empty(len(inputs), 0)
        latents = torch.empty(len(inputs), 0, dtype=torch.int64, device=self.device)
        for start, tile in self._tiles(inputs):
            found, where = pick(tile, count)
            values, latents = torch.cat([values, found], -1), torch.cat([latents, where + start], -1)
            if values.shape[1] > count:
                values, chosen = pick(values, count)
                latents = latents.gather(-1, chosen)
        return values, latents

    def _group_max(self, inputs: torch.Tensor, k: int) -> Found:
        """The largest of each of k equal groups of neighbouring latents, where above zero; a tile is whole groups."""
        size = self.info.n_latents // k
        together = max(1, _LATENTS // size)
        values, latents = [], []
        for start in range(0, self.info.n_latents, together * size):
            tile = self._tile(inputs, start, min(start + together * size, self.info.n_latents))
            best, where = tile.unflatten(-1, (-1, size)).max(-1)
            values.append(best)
            latents.append(where + torch.arange(start, start + tile.shape[1], size, device=self.device))
        return self._positive(torch.cat(values, -1), torch.cat(latents, -1))

    def _above(self, inputs: torch.Tensor, threshold: torch.Tensor | None = None) -> Found:
        """Everything above zero and, where there are any, above the latents' thresholds `[latents]`."""
        found: list[Found] = []
        for start, tile in self._tiles(inputs):
            kept = tile > 0
            if threshold is not None:
                kept &= tile > threshold[start : start + _LATENTS]
            rows, columns = kept.nonzero(as_tuple=True)
            found.append((rows, columns + start, tile[rows, columns]))
        rows, latents, values = (torch.cat(part) for part in zip(*found, strict=True))
        return rows, latents, values

    def _positive(self, values: torch.Tensor, latents: torch.Tensor) -> Found:
        kept = values > 0
        rows = torch.arange(len(values), device=self.device)[:, None].expand_as(values)
        return rows[kept], latents[kept], values[kept]


def _largest_of(values: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of each row `[n, m]` and where they are, in any order."""
    found = values.topk(min(count, values.shape[1]), dim=-1, sorted=False)
    return found.values, found.indices


def _first_largest_of(values: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of each row `[n, m]`, the first of equals before the others, in the order in which they stand."""
    where = values.argsort(dim=-1, descending=True, stable=True)[:, :count].sort(-1).values
    return values.gather(-1, where), where
