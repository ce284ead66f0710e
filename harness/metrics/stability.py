"""Whether a ranking of latents comes out again: Kendall's tau and the overlap of the top, over pairs of replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.intervals import Interval
from harness.metrics.jackknife import fisher_interval

__all__ = ["Stability", "rank_stability", "top_share"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stability:
    """How far two rankings of the same latents agree, a mean over pairs of replicates.

    `tau` is Kendall's tau-b in [-1, 1], None where one side of each pair has all latents level; its 95 % `interval` is
    over latents, None below 20 of them. `overlap` is the share of the `top` latents of one that are among those of the
    other; by chance it is `top` over latents.
    """

    tau: float | None
    interval: Interval | None
    overlap: float | None
    top: int
    latents: int
    pairs: int


def rank_stability(pairs: Sequence[tuple[ArrayLike, ArrayLike]], top: int) -> Stability:
    """The stability of a ranking over pairs of replicates, each two arrays `[latents]` of scores.

    The interval is the jackknife's over latents on Fisher's scale (`fisher_interval`): a latent is left out of all
    replicates at once. Where scores are tied at the edge of the top, each of the tied ones has its share of a place.

    Raises:
        ValueError: there is no pair, arrays differ in length, a score is missing, or the top has no place or more
            than there are latents.
    """
    given = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    if not given:
        raise ValueError("a ranking is stable over pairs of replicates, and there is none")
    n = len(given[0][0])
    if any(side.shape != (n,) or not np.isfinite(side).all() for pair in given for side in pair):
        raise ValueError("replicates must have a score of each of the same latents")
    if not 1 <= top <= n:
        raise ValueError(f"the top of {n} latents has 1 to {n} places, not {top}")
    overlap = float(np.mean([top_share(a, top) @ top_share(b, top) / top for a, b in given]))
    agreeing = [(a, b) for a, b in given if np.ptp(a) > 0 and np.ptp(b) > 0]
    if not agreeing:
        return Stability(None, None, overlap, top, n, len(given))
    signs = [(_signs(a), _signs(b)) for a, b in agreeing]

    def statistic(weights: Floats) -> Floats:
        return np.mean([_tau(weights, *pair) for pair in signs], axis=0)

    tau = float(statistic(np.ones((1, n)))[0])
    return Stability(tau, fisher_interval(statistic, np.arange(n), level=0.95), overlap, top, n, len(given))


def top_share(scores: Floats, top: int) -> Floats:
    """How much of a place in the top each latent has, `[latents]`: 1 above the edge, 0 below, an equal share at it."""
    edge = np.sort(scores)[-top]
    above, level = scores > edge, scores == edge
    return above + level * (top - above.sum()) / level.sum()


def _signs(scores: Floats) -> Floats:
    return np.sign(scores[:, None] - scores[None, :])


def _tau(weights: Floats, a: Floats, b: Floats) -> Floats:
    """Kendall's tau-b (1945) where latents count as often as the weights, `[draws, latents]`, say."""
    agreed, first, second = (_total(weights, pairs) for pairs in (a * b, np.abs(a), np.abs(b)))
    whole = np.sqrt(first * second)
    return np.divide(agreed, whole, out=np.full(len(weights), np.nan), where=whole > 0)


def _total(weights: Floats, pairs: Floats) -> Floats:
    return np.einsum("dl,dl->d", weights @ pairs, weights)
