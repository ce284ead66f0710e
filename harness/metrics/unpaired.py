"""The difference of two populations' means: other latents on either side, so nothing is paired."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.intervals import MIN_LATENTS, Interval, bca, bootstrap_means
from harness.values import seed_of

__all__ = ["unpaired_interval"]


def unpaired_interval(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95, resamples: int = 4999, seed: int = 0
) -> Interval | None:
    """The BCa bootstrap interval of mean(a) - mean(b), `[latents of a]` and `[latents of b]` resampled apart.

    The acceleration is Efron's (1987): the sum of cubed influences over six times the sum of squared ones to the power
    1.5, where a value's influence is its deviation over its sample's size, with the other sign for `b`. Tails are
    widened as in `mean_interval`, with Welch's degrees of freedom. None where either side has fewer than 20 latents,
    and where neither side's values differ: resampling then cannot tell how far the difference may be off.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    samples = [np.asarray(values, dtype=np.float64) for values in (a, b)]
    if not all(np.isfinite(sample).all() for sample in samples):
        raise ValueError("an interval needs finite values")
    if min(map(len, samples)) < MIN_LATENTS or all(_constant(sample) for sample in samples):
        return None
    influences = np.concatenate(
        [sign * _deviations(sample) / len(sample) for sign, sample in zip((1, -1), samples, strict=True)]
    )
    variances = [float(np.square(_deviations(sample)).mean()) / len(sample) for sample in samples]
    # of the mean, without the bias of a small sample
    unbiased = [variance * len(sample) / (len(sample) - 1) for variance, sample in zip(variances, samples, strict=True)]
    freedom = sum(unbiased) ** 2 / sum(
        part**2 / (len(sample) - 1) for part, sample in zip(unbiased, samples, strict=True)
    )
    first, second = (_means(sample, resamples, seed, side) for side, sample in enumerate(samples))
    drawn = min(len(first), len(second))
    return bca(
        first[:drawn] - second[:drawn],
        float(samples[0].mean() - samples[1].mean()),
        float((influences**3).sum() / (6 * np.square(influences).sum() ** 1.5)),
        freedom=freedom,
        widening=float(np.sqrt(sum(unbiased) / sum(variances))),
        level=level,
    )


def _deviations(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.zeros_like(sample) if _constant(sample) else sample - sample.mean()


def _constant(sample: NDArray[np.float64]) -> bool:
    return float(np.ptp(sample)) <= 1e-12 * float(np.abs(sample).max())


def _means(sample: NDArray[np.float64], resamples: int, seed: int, side: int) -> NDArray[np.float64]:
    if _constant(sample):
        return np.full(resamples, sample.mean())
    # with one seed for both the two sides would be drawn alike
    return bootstrap_means(sample, resamples, seed_of(seed, "unpaired", side))
