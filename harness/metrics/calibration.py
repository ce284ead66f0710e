"""Whether a judge's probabilities mean what they say: the Brier score and a reliability table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["BINS", "Bin", "Calibration", "calibration"]

# Equal bins of the probability: 0 to 0.1, ..., 0.9 to 1.
BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """The examples with a probability from `low` to `high`: how many, its mean, and the share that is activating."""

    low: float
    high: float
    n: int
    probability: float
    activating: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A judge's probabilities against the truth.

    `brier` is the mean squared difference of probability and truth (Brier 1950): 0 is perfect, 0.25 what saying one
    half everywhere gets. `error` is the expected calibration error (Naeini et al. 2015): the mean over examples of the
    distance between their bin's mean probability and share activating, in [0, 1]. `bins` are the bins with an example.
    All are of the examples as they were asked, about one half activating, not of the corpus.
    """

    brier: float
    error: float
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: `brier`, `calibration_error` and `calibration`, a list of `[low, n, probability, activating]`."""
        table = [[bin_.low, bin_.n, round(bin_.probability, 4), round(bin_.activating, 4)] for bin_ in self.bins]
        return {"brier": self.brier, "calibration_error": self.error, "calibration": table}


def calibration(
    truth: ArrayLike, probabilities: Sequence[float | None] | ArrayLike | None, *, bins: int = BINS
) -> Calibration | None:
    """The calibration of probabilities of being activating; examples without one (None or NaN) are left out.

    `truth` and `probabilities` are `[examples]`. A bin holds its lower edge, the last one 1 as well. None where no
    example has a probability.

    Raises:
        ValueError: lengths differ, or a probability is out of range.
    """
    if probabilities is None:
        return None
    true, said = np.asarray(truth, np.float64), np.asarray(probabilities, np.float64)
    if true.ndim != 1 or true.shape != said.shape:
        raise ValueError(f"truth {true.shape} and probabilities {said.shape} must match")
    if np.any((said < 0) | (said > 1)):
        raise ValueError("probabilities must lie in [0, 1] or be missing")
    has = ~np.isnan(said)
    true, said = true[has], said[has]
    if not len(said):
        return None
    # a probability kept in single precision may lie a little below its tenth
    where = np.minimum((said * bins + 1e-6).astype(int), bins - 1)
    found = tuple(
        Bin(at / bins, (at + 1) / bins, int(inside.sum()), float(said[inside].mean()), float(true[inside].mean()))
        for at in np.unique(where).tolist()
        for inside in [where == at]
    )
    error = sum(bin_.n * abs(bin_.probability - bin_.activating) for bin_ in found) / len(said)
    return Calibration(float(np.square(said - true).mean()), float(error), found)
