"""How far people who rated the same things agree: Krippendorff's alpha for ordered categories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.intervals import Interval

__all__ = ["Agreement", "agreement", "alpha"]

Floats = NDArray[np.float64]
# fewer things rated twice say nothing about others
_FEWEST = 10


@dataclass(frozen=True, slots=True)
class Agreement:
    """Alpha (1 is perfect, 0 is chance) over `items` that at least two rated; None where it is not defined."""

    value: float | None
    interval: Interval | None
    items: int
    raters: int


def agreement(
    ratings: ArrayLike, categories: int, *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Agreement:
    """Krippendorff's alpha of ratings `[raters, items]`, 1 to `categories`, NaN where there is none.

    Differences are ordinal: between two categories lies what all raters gave in and between them, the ends by half
    (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011). The interval is the middle `level` of
    alpha over items drawn with replacement; None below ten items that two rated, or where alpha is not defined.

    Raises:
        ValueError: a rating is none of the categories.
    """
    found = np.asarray(ratings, np.float64)
    given = found[~np.isnan(found)]
    if not np.isin(given, np.arange(1, categories + 1)).all():
        raise ValueError(f"ratings have to be whole numbers from 1 to {categories}")
    # how often each item was put into each category, `[items, categories]`
    counts = np.stack([(found == c).sum(axis=0) for c in range(1, categories + 1)], axis=1).astype(np.float64)
    counts = counts[counts.sum(axis=1) >= 2]
    items, raters = len(counts), int((~np.isnan(found)).any(axis=1).sum())
    value = alpha(counts)
    if value is None or items < _FEWEST:
        return Agreement(value, None, items, raters)
    generator = np.random.default_rng(seed)
    values = [alpha(counts[generator.integers(0, items, items)]) for _ in range(draws)]
    kept = [each for each in values if each is not None]
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Agreement(value, Interval(float(low), float(high), level), items, raters)


def alpha(counts: Floats) -> float | None:
    """Ordinal alpha from how often each item was put into each category, `[items, categories]`.

    None where no item has two ratings, or all are of one category.
    """
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return None
    per_item = counts.sum(axis=1)
    together = np.einsum("ij,ik->ijk", counts, counts) - np.einsum("ij,jk->ijk", counts, np.eye(counts.shape[1]))
    coincidences = (together / (per_item - 1)[:, None, None]).sum(axis=0)
    totals = coincidences.sum(axis=0)
    # what lies from the first category to each, its own half included
    middle = np.cumsum(totals) - totals / 2
    distance = (middle[:, None] - middle[None, :]) ** 2
    expected = float((np.outer(totals, totals) * distance).sum())
    if expected <= 0:
        return None
    observed = float((coincidences * distance).sum())
    return 1 - (totals.sum() - 1) * observed / expected
