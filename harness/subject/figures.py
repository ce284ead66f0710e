"""How well a coder describes activations: the fraction of variance unexplained and L0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["CoderFigures", "FigureSums"]


@dataclass(frozen=True, slots=True)
class CoderFigures:
    """How well a coder describes its hookpoint's activations, or those that it predicts.

    `fvu` is the fraction of variance unexplained, sum of squared errors over sum of squared deviations from the
    mean; `l0` the mean number of active latents a token; `tokens` on how many they were taken. `published_fvu` and
    `published_l0` are what the coder's own files say, None where they say nothing; `notes` tell what of these files
    could not be compared with the task, or was overruled.
    """

    fvu: float
    l0: float
    tokens: int
    published_fvu: float | None = None
    published_l0: float | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        fvu, l0 = f"FVU {self.fvu:.3f}", f"L0 {self.l0:.1f}"
        if self.published_fvu is not None:
            fvu += f" (published: {self.published_fvu:.3f})"
        if self.published_l0 is not None:
            l0 += f" (published: {self.published_l0:.1f})"
        return f"{fvu}, {l0} on the first {self.tokens:,} tokens"


class FigureSums:
    """Sums in float64 from which figures follow, so that activations can come batch by batch."""

    def __init__(self, width: int) -> None:
        import torch

        self._count = 0
        self._active = 0
        self._error = 0.0
        self._square = 0.0
        self._sum = torch.zeros(width, dtype=torch.float64)

    def add(self, activations: torch.Tensor, reconstructed: torch.Tensor, active: int) -> None:
        """Count activations `[n, d]`, what a coder made of them, and its number of active latents."""
        wide = activations.double()
        self._count += len(wide)
        self._active += active
        self._error += float((wide - reconstructed.double()).square().sum())
        self._square += float(wide.square().sum())
        self._sum += wide.sum(0).cpu()

    def figures(self) -> CoderFigures:
        """The figures of everything counted; not a number where nothing was."""
        if not self._count:
            return CoderFigures(float("nan"), float("nan"), 0)
        spread = self._square - float(self._sum.square().sum()) / self._count
        fvu = self._error / spread if spread > 0 else float("nan")
        return CoderFigures(fvu, self._active / self._count, self._count)
