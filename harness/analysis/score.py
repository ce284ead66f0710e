"""One score as a value: a row of a frame of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["TOO_FEW", "Score"]

# the status of a latent that no arm could be asked about
TOO_FEW = "too_few_examples"


class Score(NamedTuple):
    """One row of a frame of scores, missing cells None."""

    run: str | None
    coder: str
    latent: int
    explainer: str | None
    control: str | None
    scorer: str
    scorer_model: str | None
    prompt: str | None
    rung: str
    status: str
    metrics: Mapping[str, Any] | None
    n_pos: int | None
    n_neg: int | None
    failed: int | None

    def figure(self, metric: str) -> float:
        """A figure, NaN where the score failed or the figure is not defined."""
        value = (self.metrics or {}).get(metric) if self.status == "ok" else None
        return math.nan if value is None else float(value)

    def filled(self, metric: str, level: float) -> float:
        """The figure with what failed at a level; NaN where there were too few examples to ask about."""
        if self.status == TOO_FEW:
            return math.nan
        value = self.figure(metric)
        if math.isnan(value):
            return level
        share = (self.failed or 0) / max(1, (self.n_pos or 0) + (self.n_neg or 0))
        return (1 - share) * value + share * level
