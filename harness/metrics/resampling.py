"""What chance does to one latent's own figure: examples reweighted at random, and truth labels permuted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.classification import RANKING, Votes, figure
from harness.metrics.intervals import Interval

__all__ = ["own_interval", "permute_truth", "permuted_figures", "reweighted"]

Floats = NDArray[np.float64]


def own_interval(
    truth: ArrayLike,
    labels: Sequence[float | None] | ArrayLike | None,
    probabilities: Sequence[float | None] | ArrayLike | None = None,
    *,
    metric: str = "balanced_accuracy",
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """How far one latent's own figure may be from what it would be on endlessly many examples.

    Examples are resampled within each class, as in `reweighted`; the interval is the middle `level` of the
    figure over the draws. None where a class has no answered example. Arguments as for `Votes.of`.
    """
    votes = Votes.of(truth, labels, probabilities).used_by(metric)
    if votes.n_pos == 0 or votes.n_neg == 0:
        return None
    share = votes.n_pos / (votes.n_pos + votes.n_neg)
    values = reweighted(metric, votes, share, draws, seed)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def reweighted(metric: str, votes: Votes, share: float, draws: int, seed: int) -> Floats:
    """A figure in many random reweightings of the examples within their class, `[draws]`.

    The activating examples together weigh `share`, the silent ones the rest. Within a class the weights are a
    Dirichlet draw (the Bayesian bootstrap; Rubin 1981) over its examples and two half examples, one that the
    judge ranks above everything and one below. The share of a class that lies above a threshold is then, at
    each threshold, a draw from Jeffreys' Beta(k + 1/2, n - k + 1/2): unlike the plain bootstrap, this leaves
    room for errors that n examples happened not to show.
    """
    votes = votes.used_by(metric)
    ranking = metric in RANKING
    basis = votes.scores if ranking else votes.labels
    ends = (np.inf, -np.inf) if ranking else (1.0, 0.0)
    rng = np.random.default_rng(seed)
    # examples of one class that are judged alike share one weight: a sum of gamma draws is a gamma draw
    (above, positive), (below, negative) = (
        _class_weights(basis[votes.truth == truth], ends, draws, rng) for truth in (1, 0)
    )
    extended = replace(
        votes,
        truth=np.repeat([1.0, 0.0], [len(above), len(below)]),
        labels=np.concatenate([above, below]),
        scores=np.concatenate([above, below]),
    )
    silent, activating = np.zeros_like(negative), np.zeros_like(positive)
    positive = np.concatenate([share * positive, silent], axis=1)
    negative = np.concatenate([activating, (1 - share) * negative], axis=1)
    return np.atleast_1d(figure(metric, extended, positive, negative))


def _class_weights(
    basis: Floats, ends: tuple[float, float], draws: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """The distinct values of one class with the half examples' added, `[values]`, and weights `[draws, values]`."""
    values, counts = np.unique(basis, return_counts=True)
    weights = rng.standard_gamma(np.concatenate([counts, [0.5, 0.5]]), (draws, len(values) + 2))
    return np.concatenate([values, ends]), weights / weights.sum(axis=1, keepdims=True)


def permute_truth(truth: ArrayLike, seed: int) -> NDArray[np.bool_]:
    """The truth labels of a latent's examples in random order: the exact null of any scorer."""
    return np.random.default_rng(seed).permutation(np.asarray(truth, dtype=bool))


def permuted_figures(
    truth: ArrayLike,
    labels: Sequence[float | None] | ArrayLike | None,
    probabilities: Sequence[float | None] | ArrayLike | None = None,
    *,
    metric: str = "balanced_accuracy",
    permutations: int = 1000,
    seed: int = 0,
) -> Floats:
    """A latent's figure under random permutations of the truth among its answered examples, `[permutations]`.

    Their mean is 0.5 for balanced accuracy and AUROC and 0 for MCC, whatever the judge said. NaN where the
    figure is not defined. Arguments as for `Votes.of`.
    """
    votes = Votes.of(truth, labels, probabilities).used_by(metric)
    rng = np.random.default_rng(seed)
    positive = rng.permuted(np.tile(votes.truth, (permutations, 1)), axis=1)
    return np.atleast_1d(figure(metric, votes, positive, 1 - positive))
