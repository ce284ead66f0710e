"""How far a scorer agrees with itself: its figure from one half of a latent's examples against the other half."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.intervals import Interval
from harness.metrics.jackknife import fisher_interval

__all__ = ["SPLITS", "Reliability", "halves", "spearman_brown", "split_half"]

Floats = NDArray[np.float64]

# With 100 splits the chance of the split moves the mean by less than 0.005 at 20 latents.
SPLITS = 100


@dataclass(frozen=True, slots=True)
class Reliability:
    """The correlation to expect between two scorings of the same latents, each on as many examples as were asked.

    At most 1; None where no split has a correlation. Over `n` rows of `latents` latents that have a figure in both
    halves of every split.
    """

    value: float | None
    interval: Interval | None
    n: int
    latents: int


def halves(truth: ArrayLike, quantiles: ArrayLike, *, splits: int = SPLITS, seed: int = 0) -> NDArray[np.bool_]:
    """Random halves of a latent's examples, balanced by truth and quantile: `[splits, examples]`, true in the first.

    `truth` and `quantiles` are `[examples]`. The halves differ by at most one in the examples of each truth, and in
    those of each quantile.
    """
    true = np.asarray(truth, np.int64)
    names, stratum = np.unique(np.stack([true, np.asarray(quantiles, np.int64)]), axis=1, return_inverse=True)
    stratum = stratum.reshape(-1)
    rng = np.random.default_rng(seed)
    # examples are dealt to the halves in turns: one truth, quantile by quantile in a random order, each shuffled
    turns = rng.random((splits, names.shape[1]))[:, stratum]
    order = np.lexsort((rng.random(turns.shape), turns, np.broadcast_to(true, turns.shape)), axis=1)
    ordered = np.sort(true)
    begins = rng.integers(0, 2, (splits, 2))[:, ordered]
    chosen = np.empty(turns.shape, dtype=bool)
    np.put_along_axis(
        chosen, order, (np.arange(len(true)) - np.searchsorted(ordered, ordered) + begins) % 2 == 0, axis=1
    )
    return chosen


def spearman_brown(correlation: float) -> float:
    """The correlation to expect of figures from twice as many examples (Spearman 1910, Brown 1910): 2 r / (1 + r)."""
    return 2 * correlation / (1 + correlation) if correlation > -1 else -np.inf


def split_half(
    first: ArrayLike, second: ArrayLike, latents: ArrayLike | None = None, *, level: float = 0.95
) -> Reliability:
    """The split-half reliability of a scorer: Spearman-Brown of the correlation of halves, its mean over splits.

    `first` and `second` are the figures of the two halves, `[splits, rows]`, a row a latent and arm; a row with a NaN
    in any split is left out. `latents` says which latent each row is of, by default each of its own. Pearson's
    correlation over rows is taken in each split. The interval is the jackknife's over latents, of the mean
    correlation on Fisher's scale (`fisher_interval`): it covers 93 to 97 of 100 at 20, 40 and 300 latents. None
    below 20 latents.

    Raises:
        ValueError: the arrays differ in shape, or a figure is infinite.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    of = np.arange(a.shape[-1]) if latents is None else np.asarray(latents)
    if a.ndim != 2 or a.shape != b.shape or a.shape[1:] != of.shape:
        raise ValueError(f"halves {a.shape} and {b.shape} and latents {of.shape} must be of the same rows")
    if np.isinf(a).any() or np.isinf(b).any():
        raise ValueError("a reliability needs finite figures")
    kept = ~(np.isnan(a) | np.isnan(b)).any(axis=0)
    a, b, of = a[:, kept], b[:, kept], of[kept]
    n, distinct = int(kept.sum()), len(np.unique(of))

    def mean_correlation(weights: Floats) -> Floats:
        return _mean_correlation(a, b, weights)

    value = float(mean_correlation(np.ones((1, n)))[0]) if n else np.nan
    if np.isnan(value):
        return Reliability(None, None, n, distinct)
    found = fisher_interval(mean_correlation, of, level=level)
    interval = None if found is None else Interval(spearman_brown(found.low), spearman_brown(found.high), level)
    return Reliability(spearman_brown(value), interval, n, distinct)


def _mean_correlation(a: Floats, b: Floats, weights: Floats) -> Floats:
    """The mean over splits of the halves' correlation under each weighting of the rows: `[draws, rows]` to `[draws]`.

    A split in which a half is constant has no correlation and is left out; NaN where none is left.
    """
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    whole = weights.sum(axis=1, keepdims=True)
    mean_a, mean_b = weights @ a.T / whole, weights @ b.T / whole
    aa, bb = weights @ (a * a).T / whole - mean_a**2, weights @ (b * b).T / whole - mean_b**2
    ab = weights @ (a * b).T / whole - mean_a * mean_b
    # what differences of squares leave of equal figures
    noise = 1e-12 * max(float(np.square(a).max(initial=0.0)), float(np.square(b).max(initial=0.0)))
    there = (aa > noise) & (bb > noise)
    found = np.divide(ab, np.sqrt(np.where(there, aa * bb, 1.0)), out=np.zeros(ab.shape), where=there)
    count = there.sum(axis=1)
    return np.divide(found.sum(axis=1), count, out=np.full(len(count), np.nan), where=count > 0)
