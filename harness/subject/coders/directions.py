"""Directions as latents: each fires where the projection on it is above a threshold that gives it a firing rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import CoderError
from harness.store.format import Rows
from harness.subject.coders.protocol import CoderInfo
from harness.subject.coders.tiles import Found, TiledEncoder

__all__ = ["DirectionCoder", "unit_directions"]

# Projections of the tokens seen in calibration, 10,000 x 1,024 x 4 B = 40 MB at once.
_TOGETHER = 1024


def unit_directions(count: int, width: int, seed: int) -> torch.Tensor:
    """Directions drawn uniformly from the unit sphere, float32 `[count, width]`; the same for a seed on any device."""
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=-1, keepdim=True)


class DirectionCoder(TiledEncoder):
    """Directions `[latents, d]` of unit norm, each of which fires on a share of the activations seen in calibration.

    `rates` are those shares; where they are fewer than the directions they repeat.
    """

    def __init__(
        self, info: CoderInfo, directions: torch.Tensor, rates: tuple[float, ...], device: str = "cpu"
    ) -> None:
        super().__init__(info, device)
        self._directions = directions.to(self.device)
        self._rates = np.resize(np.asarray(rates, np.float64), len(directions))
        self.thresholds: torch.Tensor | None = None

    @property
    def decoder(self) -> NDArray[Any]:
        """The directions, float16 `[latents, d]`."""
        return self._directions.to(torch.float16).cpu().numpy()

    @torch.no_grad()
    def calibrate(self, activations: torch.Tensor) -> None:
        """Put each threshold on the largest projection below those that shall fire: round(rate n) of `[n, d]` do.

        Raises:
            CoderError: there are too few activations for the rate.
        """
        fire = np.minimum(np.rint(self._rates * len(activations)), len(activations) - 1).astype(np.int64)
        if fire.min() < 1:
            lowest = self._rates.min()
            raise CoderError(
                f"random directions cannot fire at a rate of {lowest:g} on {len(activations)} tokens: "
                f"give a corpus of at least {round(1 / lowest)}, or a higher rate"
            )
        inputs = activations.to(self.device, torch.float32)
        counts = torch.from_numpy(fire).to(self.device)
        parts = []
        for chunk, count in zip(self._directions.split(_TOGETHER), counts.split(_TOGETHER), strict=True):
            largest = (inputs @ chunk.T).topk(int(count.max()) + 1, dim=0).values
            parts.append(largest.gather(0, count[None])[0])
        self.thresholds = torch.cat(parts)

    @torch.no_grad()
    def decode(self, rows: Rows, activations: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - as the protocol has it
        """The sum of the directions that fired, each as long as the projection on it, float32 `[n, d]`."""
        latents = torch.from_numpy(rows.latents.astype(np.int64)).to(self.device)
        values = torch.from_numpy(np.asarray(rows.values, np.float32)).to(self.device) + self._threshold[latents]
        offsets = torch.from_numpy(np.asarray(rows.indptr[:-1], np.int64)).to(self.device)
        return torch.nn.functional.embedding_bag(
            latents, self._directions, offsets, mode="sum", per_sample_weights=values
        )

    @property
    def _threshold(self) -> torch.Tensor:
        if self.thresholds is None:
            raise RuntimeError("a DirectionCoder has to be calibrated before it encodes")
        return self.thresholds

    def _prepared(self, activations: torch.Tensor) -> torch.Tensor:
        return activations

    def _tile(self, inputs: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        return inputs @ self._directions[start:stop].T - self._threshold[start:stop]

    def _firing(self, inputs: torch.Tensor) -> Found:
        return self._above(inputs)
