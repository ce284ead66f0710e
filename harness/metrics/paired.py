"""Comparing two arms on the same latents: one test, an equivalence margin, and what a comparison can detect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.intervals import MIN_LATENTS, Interval, mean_interval

__all__ = [
    "Comparison",
    "Outcome",
    "compare_paired",
    "detectable_difference",
    "holm",
    "latents_needed",
    "sign_flip",
]

Outcome = Literal["differ", "equivalent", "inconclusive"]

# 2 ** 16 sign patterns are enumerated at once; above, they are drawn.
EXACT_UP_TO = 16
# Smallest p-value 5e-5: enough for Holm over the pairs of some twenty arms.
FLIPS = 19_999
MIN_FLIPS = 1999
# Random signs in one test, below a second.
MAX_SIGNS = 60_000_000
POWER = 0.8


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arm A against arm B on the latents that both have, difference = A - B.

    `p` is the two-sided sign-flip test's, `p_adjusted` Holm's over all pairs compared together. `interval` is
    the difference's at 95 %, `equivalence_interval` at 90 %; None below 20 latents or where all differences are
    equal. `detectable` is the smallest true difference found in 80 of 100 such studies, None below 2 latents;
    `needed` the latents at which the margin would be settled (see `latents_needed`).
    """

    n: int
    mean_a: float | None
    mean_b: float | None
    difference: float | None
    interval: Interval | None
    equivalence_interval: Interval | None
    p: float | None
    p_adjusted: float | None
    margin: float
    outcome: Outcome
    detectable: float | None
    needed: int | None

    def sentence(self, a: str, b: str) -> str:
        """The outcome in words for arms of these names."""
        if self.difference is None or self.p_adjusted is None:
            return f"inconclusive: {a} and {b} share no latent"
        if self.outcome == "differ":
            higher, lower = (a, b) if self.difference > 0 else (b, a)
            return f"differ: {higher} is above {lower} by {abs(self.difference):.3f} ({_p(self.p_adjusted)})"
        if self.outcome == "equivalent":
            return f"equivalent within {self.margin:g}"
        return f"inconclusive: {self._outlook()}"

    def _outlook(self) -> str:
        if self.needed is None:
            return "too few latents to tell how many are needed"
        if self.needed > self.n:
            return f"{self.needed - self.n:,} more latents would settle it"
        return f"the difference lies between equal and the margin of {self.margin:g}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def sign_flip(differences: ArrayLike, *, flips: int = FLIPS, seed: int = 0) -> float:
    """The two-sided p-value of the paired sign-flip permutation test of a mean difference of 0.

    `differences` is `[latents]`. If the arms are exchangeable, each difference is as likely with the other
    sign; p is the share of sign patterns with a mean at least as far from 0. All patterns are enumerated up to 16
    non-zero differences (zeros do not matter); above, p = (b + 1) / (flips + 1) over random ones (Phipson and
    Smyth 2010). 1 where all differences are 0, NaN where there is none.

    Raises:
        ValueError: a difference is NaN or infinite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the sign-flip test needs finite differences")
    if len(values) == 0:
        return math.nan
    largest = float(np.abs(values).max())
    if largest == 0:
        return 1.0
    # rounding makes differences that are equal but for floating-point noise the same value
    scaled = np.round(values / largest, 12)
    scaled = scaled[scaled != 0]
    observed = abs(float(scaled.sum())) - 1e-9
    if len(scaled) <= EXACT_UP_TO:
        patterns = np.arange(2 ** len(scaled))[:, None] >> np.arange(len(scaled))
        return float((np.abs((1 - 2 * (patterns & 1)) @ scaled) >= observed).mean())
    sums = _flipped_sums(np.abs(scaled), flips, seed)
    return float((np.abs(sums) >= observed).sum() + 1) / (len(sums) + 1)


def _flipped_sums(sizes: NDArray[np.float64], flips: int, seed: int) -> NDArray[np.float64]:
    """Sums of the sizes under random signs, at most `[flips]`, at least 1,999."""
    values, counts = np.unique(sizes, return_counts=True)
    n = len(sizes)
    # how many of one size are positive is one binomial draw, which takes some sixteen times as long as one sign
    width = min(n, 16 * len(values))
    flips = min(flips, max(MIN_FLIPS, MAX_SIGNS // width))
    block = max(1, 2_000_000 // width)
    rows = [min(block, flips - start) for start in range(0, flips, block)]
    rng = np.random.default_rng(seed)
    if width < n:
        return np.concatenate([(2 * rng.binomial(counts, 0.5, (row, len(values))) - counts) @ values for row in rows])
    ordered = np.repeat(values, counts)
    return np.concatenate([2 * (_coins(rng, row, n) @ ordered) - ordered.sum() for row in rows])


def _coins(rng: np.random.Generator, rows: int, n: int) -> NDArray[np.float64]:
    """Zeros and ones with equal chances, `[rows, n]`."""
    packed = np.frombuffer(rng.bytes((rows * n + 7) // 8), dtype=np.uint8)
    return np.unpackbits(packed, count=rows * n).reshape(rows, n).astype(np.float64)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number by Holm's step-down method (Holm 1979); None stays None, uncounted."""
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = largest
    return adjusted


def detectable_difference(spread: float, n: int, *, alpha: float = 0.05, power: float = POWER) -> float | None:
    """The smallest true mean difference that a two-sided test at `alpha` finds with probability `power`.

    `spread` is the standard deviation of the differences, which says what can be seen whatever was seen: the
    observed mean does not enter. (t(1 - alpha/2) + t(power)) * spread / sqrt(n), with n - 1 degrees of freedom.
    None below 2 latents.
    """
    if n < 2:
        return None
    from scipy.special import stdtrit

    return float((stdtrit(n - 1, 1 - alpha / 2) + stdtrit(n - 1, power)) * spread / math.sqrt(n))


def latents_needed(
    spread: float, margin: float, *, alpha: float = 0.05, equivalence_alpha: float = 0.05, power: float = POWER
) -> int:
    """The latents at which a margin is settled: the larger of two numbers, each with probability `power`.

    At one a true difference of `margin` is told from 0 by the two-sided test at `alpha`; at the other arms that
    are truly equal have their interval at level 1 - 2 * equivalence_alpha inside the margin. `spread` is the
    standard deviation of the differences. At least 20, below which there is no interval.

    Raises:
        ValueError: the margin is not above 0.
    """
    if margin <= 0:
        raise ValueError(f"a margin is above 0, not {margin}")
    from scipy.special import stdtrit

    def enough(n: int) -> bool:
        found = detectable_difference(spread, n, alpha=alpha, power=power)
        equal = stdtrit(n - 1, 1 - equivalence_alpha) + stdtrit(n - 1, (1 + power) / 2)
        return found is not None and max(found, equal * spread / math.sqrt(n)) <= margin

    high = MIN_LATENTS
    while not enough(high):
        high *= 2
    low = high // 2 if high > MIN_LATENTS else high - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def compare_paired(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]], margin: float, *, alpha: float = 0.05, seed: int = 0
) -> list[Comparison]:
    """Arms compared pair by pair, with Holm over the pairs.

    Each pair is two score arrays `[latents]`, A and B, on the same latents. The outcome is

    - *equivalent* where the difference's 90 % interval lies inside the margin (two one-sided tests at 5 % for
      each pair): such arms may differ, but by less than matters;
    - *differ* where Holm's adjusted p of the sign-flip test is below `alpha`;
    - *inconclusive* otherwise.

    What is detectable and needed is worked out for Holm's strictest step, alpha / pairs.

    Raises:
        ValueError: the arrays of a pair differ in length, a score is not finite, or the margin is not above 0.
    """
    scores = [(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)) for a, b in pairs]
    for a, b in scores:
        if a.shape != b.shape or a.ndim != 1:
            raise ValueError(f"a pair's scores must be on the same latents, not {a.shape} and {b.shape}")
    p_values = [None if len(a) == 0 else sign_flip(a - b, seed=seed) for a, b in scores]
    strictest = alpha / max(1, sum(p is not None for p in p_values))
    return [
        _comparison(a, b, p, adjusted, margin, alpha, strictest, seed)
        for (a, b), p, adjusted in zip(scores, p_values, holm(p_values), strict=True)
    ]


def _comparison(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    p: float | None,
    adjusted: float | None,
    margin: float,
    alpha: float,
    strictest: float,
    seed: int,
) -> Comparison:
    n, differences = len(a), a - b
    spread = float(differences.std(ddof=1)) if n > 1 else None
    narrow = mean_interval(differences, level=0.9, seed=seed)
    return Comparison(
        n=n,
        mean_a=float(a.mean()) if n else None,
        mean_b=float(b.mean()) if n else None,
        difference=float(differences.mean()) if n else None,
        interval=mean_interval(differences, seed=seed),
        equivalence_interval=narrow,
        p=p,
        p_adjusted=adjusted,
        margin=margin,
        outcome=_outcome(differences, narrow, adjusted, margin, alpha),
        detectable=None if spread is None else detectable_difference(spread, n, alpha=strictest),
        needed=None if spread is None else latents_needed(spread, margin, alpha=strictest),
    )


def _outcome(
    differences: NDArray[np.float64], narrow: Interval | None, adjusted: float | None, margin: float, alpha: float
) -> Outcome:
    # equal scores on every one of enough latents have no bootstrap interval, and are as equivalent as can be
    same = len(differences) >= MIN_LATENTS and not differences.any()
    if same or (narrow is not None and narrow.inside(margin)):
        return "equivalent"
    return "differ" if adjusted is not None and adjusted < alpha else "inconclusive"
