"""What a judge's answers are worth where the latent fires as rarely as it does in the corpus.

A scorer asks about as many activating as silent windows; in the corpus silent ones are far more frequent. With a
true positive rate of 0.8 and a false positive rate of 0.1, balanced accuracy is 0.85, and at a base rate of
0.001 precision is 0.008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.metrics.classification import Votes, figure
from harness.metrics.resampling import reweighted

__all__ = ["RESOLVED_WIDTH", "BaseRateFigures", "Estimate", "at_base_rate"]

# A share known no better than this does not tell a good explanation from a middling one: "not resolved".
RESOLVED_WIDTH = 0.2


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; `value` is None where too few examples were asked to resolve it."""

    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BaseRateFigures:
    """One latent's figures at its own base rate, the share of windows in which it fires.

    An estimate is None where it is not defined: a class has no answered example, or, for `average_precision`,
    there are no probabilities.
    """

    base_rate: float
    precision: Estimate | None
    f1: Estimate | None
    average_precision: Estimate | None

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able mapping: `base_rate`, and `[value, low, high]` of each figure that is defined, else None."""
        of = {"precision": self.precision, "f1": self.f1, "average_precision": self.average_precision}
        told = {f"{name}_at_base_rate": None if e is None else [e.value, e.low, e.high] for name, e in of.items()}
        return {"base_rate": self.base_rate, **told}


def at_base_rate(
    truth: ArrayLike,
    labels: Sequence[float | None] | ArrayLike,
    probabilities: Sequence[float | None] | ArrayLike | None = None,
    *,
    base_rate: float,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> BaseRateFigures:
    """Precision, F1 and average precision with the examples of the `random` rung reweighted to a base rate.

    The other arguments are as for `Votes.of`; silent examples must be a random draw of the silent windows.
    Intervals are the middle `level` of `reweighted` draws, which at each threshold are Jeffreys' for the true
    and the false positive rate. A figure whose interval is wider than 0.2 is not resolved: where no false
    positive was seen among 100 silent windows, the false positive rate may still be 0.02, and at a base rate
    of 0.01 precision anything from 0.3 to 1.

    Raises:
        ValueError: the base rate is not strictly between 0 and 1, or as for `Votes.of`.
    """
    if not 0 < base_rate < 1:
        raise ValueError(f"a base rate lies strictly between 0 and 1, not {base_rate}")
    votes = Votes.of(truth, labels, probabilities)

    def estimate(metric: str) -> Estimate | None:
        used = votes.used_by(metric)
        if used.n_pos == 0 or used.n_neg == 0:
            return None
        positive = used.truth * (base_rate / used.n_pos)
        negative = (1 - used.truth) * ((1 - base_rate) / used.n_neg)
        value = float(figure(metric, used, positive, negative))
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(reweighted(metric, used, base_rate, draws, seed), tails).tolist()
        resolved = high - low <= RESOLVED_WIDTH and not np.isnan(value)
        return Estimate(value if resolved else None, low, high)

    return BaseRateFigures(base_rate, estimate("precision"), estimate("f1"), estimate("average_precision"))
