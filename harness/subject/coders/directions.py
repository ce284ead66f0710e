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

# Directions that are looked at together: at most 10,000 of their projections are kept, 1,024 x 4 B x 10,000 = 40 MB.
_TOGETHER = 1024
# A threshold rests on the first 10,000 tokens, or on as many as a rare direction needs to fire a hundred times: then
# its rate is off by some 10 %.
_TOKENS = 10_000
_FIRINGS = 100


def unit_directions(count: int, width: int, seed: int) -> torch.Tensor:
    """Directions drawn uniformly from the unit sphere, float32 `[count, width]`; the same for a seed on any device."""
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=-1, keepdim=True)


class DirectionCoder(TiledEncoder):
    """Directions `[latents, d]` of unit norm, each of which fires on a share of the activations seen in calibration.

    `rates` are those shares; where they are fewer than the directions they repeat. A direction is calibrated on the
    first 10,000 activations, or on as many as it needs to fire a hundred times.
    """

    def __init__(
        self, info: CoderInfo, directions: torch.Tensor, rates: tuple[float, ...], device: str = "cpu"
    ) -> None:
        super().__init__(info, device)
        self._directions = directions.to(self.device)
        self._rates = np.resize(np.asarray(rates, np.float64), len(directions))
        self._wanted = np.maximum(_TOKENS, np.ceil(_FIRINGS / self._rates)).astype(np.int64)
        # those that keep most stand together
        order = np.argsort(-self._rates * self._wanted, kind="stable")
        self._groups = [_Group.of(order[at : at + _TOGETHER], self) for at in range(0, len(order), _TOGETHER)]
        self._seen = 0
        self.thresholds: torch.Tensor | None = None

    @property
    def decoder(self) -> NDArray[Any]:
        """The directions, float16 `[latents, d]`."""
        return self._directions.to(torch.float16).cpu().numpy()

    @property
    def calibration(self) -> int:
        """How many of the corpus's first tokens it wants to see."""
        return int(self._wanted.max())

    @torch.no_grad()
    def see(self, activations: torch.Tensor) -> None:
        """Look at the next activations `[n, d]`: of each direction's projections the largest are kept."""
        inputs = activations.to(self.device, torch.float32)
        for group in self._groups:
            group.see(inputs, self._seen)
        self._seen += len(inputs)

    @torch.no_grad()
    def settle(self) -> None:
        """Put each threshold on the largest projection below those that shall fire: round(rate n) of n do.

        Raises:
            CoderError: too few activations were seen for the rate.
        """
        seen = np.minimum(self._wanted, self._seen)
        fire = np.minimum(np.rint(self._rates * seen), seen - 1).astype(np.int64)
        if fire.min() < 1:
            lowest = self._rates.min()
            raise CoderError(
                f"random directions cannot fire at a rate of {lowest:g} on {self._seen} tokens: "
                f"give a corpus of at least {round(1 / lowest)}, or a higher rate"
            )
        self.thresholds = torch.empty(len(fire), device=self.device)
        for group in self._groups:
            self.thresholds[group.members] = group.nth_largest(torch.from_numpy(fire).to(self.device)[group.members])
        self._groups = []

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


class _Group:
    """Directions that are calibrated together, and the largest of their projections so far, `[kept, members]`."""

    def __init__(self, members: torch.Tensor, directions: torch.Tensor, wanted: torch.Tensor, keep: int) -> None:
        self.members = members
        self._directions = directions
        self._wanted = wanted
        self._keep = keep
        self._largest = torch.empty(0, len(members), device=members.device)

    @classmethod
    def of(cls, members: NDArray[np.int64], coder: DirectionCoder) -> _Group:
        """The group of these directions of a coder."""
        keep = int(np.rint(coder._rates[members] * coder._wanted[members]).max()) + 1
        where = torch.from_numpy(members).to(coder.device)
        wanted = torch.from_numpy(coder._wanted[members]).to(coder.device)
        return cls(where, coder._directions[where], wanted, keep)

    def see(self, inputs: torch.Tensor, seen: int) -> None:
        """Look at activations `[n, d]` that come after `seen` others; those beyond what a direction wants count not."""
        if seen >= int(self._wanted.max()):
            return
        found = inputs @ self._directions.T
        number = torch.arange(seen, seen + len(inputs), device=found.device)
        found = found.masked_fill(number[:, None] >= self._wanted, -torch.inf)
        found = torch.cat([self._largest, found])
        self._largest = found.topk(min(self._keep, len(found)), dim=0).values

    def nth_largest(self, which: torch.Tensor) -> torch.Tensor:
        """For each member the projection before which so many are larger, `[members]` both."""
        return self._largest.gather(0, which[None])[0]
