"""How much of a score's variance comes from where: crossed random effects by the method of moments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.intervals import MIN_LATENTS, Interval, bca

__all__ = ["Crossed", "Effect", "combined"]

Floats = NDArray[np.float64]
# the levels of a factor among which others stand: a set of axes of the array without the latents'
Effect = frozenset[int]

RESAMPLES = 1999
# below this many levels a mean square says next to nothing
MIN_LEVELS = 4
# numbers in one block of weights
_BLOCK = 20_000_000


@dataclass(frozen=True, slots=True)
class _Parts:
    """For each effect of the other factors: what is common to all latents, and what is each latent's own.

    Arrays `[draws]`, one value for each set of weights of latents.
    """

    common: dict[Effect, Floats]
    own: dict[Effect, Floats]


class Crossed:
    """Scores fully crossed, `[latents, ...]`, each further axis a random factor; none is missing.

    The model is y = mean + the sum of an effect for every non-empty set of factors, all independent; the last, of all
    factors together, holds the error too. `common[effect]` is the variance of an effect that is the same for all
    latents, `own[effect]` that of its interaction with latents; `own[frozenset()]` is that of latents. The estimates
    are those of the balanced analysis of variance (Searle, Casella and McCulloch 1992, chapter 4), without bias, and
    below 0 where chance has it so.

    A factor of one level cannot be told apart: its effects are in those of the other factors, and it is left out.

    Raises:
        ValueError: a score is missing, or there are fewer than 2 latents.
    """

    def __init__(self, scores: ArrayLike, *, seed: int = 0) -> None:
        values = np.asarray(scores, dtype=np.float64)
        if values.ndim < 1 or len(values) < 2:
            raise ValueError("variance over latents needs at least 2 of them")
        if not np.isfinite(values).all():
            raise ValueError("scores that are fully crossed have none missing")
        # axes of one level keep their number, so that effects are named alike whatever was varied
        self.axes: tuple[int, ...] = tuple(axis for axis in range(values.ndim - 1) if values.shape[1 + axis] > 1)
        self.levels: dict[int, int] = {axis: values.shape[1 + axis] for axis in self.axes}
        self._values = values
        self._seed = seed
        # what is below this is floating-point noise
        self._noise = 1e-12 * float(values.var())
        self.effects: tuple[Effect, ...] = tuple(
            frozenset(chosen) for size in range(len(self.axes) + 1) for chosen in combinations(self.axes, size)
        )

    def __len__(self) -> int:
        """How many latents there are."""
        return len(self._values)

    @cached_property
    def _contrasts(self) -> dict[Effect, Floats]:
        """Each latent's interaction contrast of every effect, `[latents, cells]`, of means over all other factors."""
        found = {}
        for effect in self.effects:
            others = tuple(1 + axis for axis in range(self._values.ndim - 1) if axis not in effect)
            means = self._values.mean(axis=others, keepdims=True)
            for axis in effect:
                means = means - means.mean(axis=1 + axis, keepdims=True)
            found[effect] = means.reshape(len(means), -1)
        return found

    def _freedom(self, effect: Effect) -> int:
        return math.prod(self.levels[axis] - 1 for axis in effect)

    def _cells(self, effect: Effect) -> int:
        return math.prod(self.levels[axis] for axis in effect)

    def _parts(self, weights: Floats) -> _Parts:
        """The components where latents count as often as `weights`, `[draws, latents]`, say.

        What is common to latents is estimated from products of two distinct latents, so that a latent which was drawn
        twice is not taken for two that agree.
        """
        total = weights.sum(axis=1)
        pairs = total**2 - np.square(weights).sum(axis=1)
        across: dict[Effect, Floats] = {}
        within: dict[Effect, Floats] = {}
        for effect, contrast in self._contrasts.items():
            squares = np.square(contrast).sum(axis=1)
            sums = np.square(weights @ contrast).sum(axis=1)
            freedom = self._freedom(effect)
            across[effect] = (sums - np.square(weights) @ squares) / (pairs * freedom)
            within[effect] = (weights @ squares) / (total * freedom) - across[effect]
        return _Parts(self._solved(across), self._solved(within))

    def _solved(self, moments: dict[Effect, Floats]) -> dict[Effect, Floats]:
        """Components from moments, each of which holds every larger effect, over its number of cells."""
        found: dict[Effect, Floats] = {}
        for effect in sorted(self.effects, key=len, reverse=True):
            larger = (other for other in found if effect < other)
            held = sum((found[other] * self._cells(effect) / self._cells(other) for other in larger), np.zeros(()))
            found[effect] = moments[effect] - held
        return found

    @cached_property
    def _whole(self) -> _Parts:
        return self._parts(np.ones((1, len(self))))

    @property
    def common(self) -> dict[Effect, float]:
        """The variance of each effect that is the same for all latents."""
        return {effect: self._clean(value) for effect, value in self._whole.common.items() if effect}

    @property
    def own(self) -> dict[Effect, float]:
        """The variance of each effect that is a latent's own; of the empty one, the variance of latents."""
        return {effect: self._clean(value) for effect, value in self._whole.own.items()}

    def _clean(self, value: Floats) -> float:
        return 0.0 if abs(float(value[0])) <= self._noise else float(value[0])

    @cached_property
    def _resampled(self) -> _Parts:
        """The components in resamples of the latents, `[RESAMPLES]` each."""
        return self._over(
            np.random.default_rng(self._seed).multinomial(len(self), [1 / len(self)] * len(self), RESAMPLES)
        )

    @cached_property
    def _without(self) -> _Parts:
        """The components without each latent in turn, `[latents]` each."""
        return self._over(1 - np.eye(len(self)))

    def _over(self, weights: NDArray[np.floating] | NDArray[np.integer]) -> _Parts:
        rows = max(1, _BLOCK // max(1, len(self)))
        parts = [self._parts(weights[at : at + rows].astype(np.float64)) for at in range(0, len(weights), rows)]
        return _Parts(
            {effect: np.concatenate([part.common[effect] for part in parts]) for effect in self.effects},
            {effect: np.concatenate([part.own[effect] for part in parts]) for effect in self.effects},
        )

    def own_sum(self, weights: Mapping[Effect, float]) -> tuple[float, Interval | None]:
        """A weighted sum of the latents' own components, with its 95 % interval.

        The interval is the BCa bootstrap over latents, tails widened as those of `mean_interval`; None below 20 latents
        and where all resamples agree.
        """
        value = sum(self.own[effect] * weight for effect, weight in weights.items())
        if len(self) < MIN_LATENTS or not weights:
            return value, None
        drawn, left = (
            sum((parts.own[effect] * weight for effect, weight in weights.items()), np.zeros(()))
            for parts in (self._resampled, self._without)
        )
        if float(np.ptp(drawn)) <= self._noise:
            return value, None
        influence = left.mean() - left
        spread = float(np.square(influence).sum())
        acceleration = float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
        n = len(self)
        return value, bca(drawn, value, acceleration, freedom=n - 1, widening=math.sqrt(n / (n - 1)))

    def common_sum(self, weights: Mapping[Effect, float]) -> tuple[float, Interval | None]:
        """A weighted sum of the components that are common to all latents, with its 95 % interval.

        Their mean squares are few, and latents tell nothing of how they would come out with other levels of a factor.
        Each is taken for a chi-square variable, and the limits of the sum are put together from theirs (the modified
        large-sample method: Graybill and Wang 1980; Ting and others 1990). None where one of their factors has fewer
        than 4 levels.
        """
        value = sum(self.common[effect] * weight for effect, weight in weights.items())
        varied = [effect for effect in weights if self.common[effect] != 0 or self.own[effect] != 0]
        if not varied or any(self.levels[axis] < MIN_LEVELS for effect in varied for axis in effect):
            return value, None
        low = high = 0.0
        for coefficient, square, freedom in self._squares(weights):
            ends = _limits(square, freedom)
            below, above = (coefficient * (end - square) for end in (ends.low, ends.high))
            low += min(below, above) ** 2
            high += max(below, above) ** 2
        return value, Interval(value - math.sqrt(low), value + math.sqrt(high))

    def _squares(self, weights: Mapping[Effect, float]) -> list[tuple[float, float, int]]:
        """The mean squares that a sum of common components is made of: coefficient, value, degrees of freedom.

        On the scale of `across`: the mean square of an effect over all its terms, and that of its interaction with
        latents, which tells how much of the first is noise.
        """
        inside: dict[Effect, float] = {}
        for effect, weight in weights.items():
            for other, factor in self._moebius(effect).items():
                inside[other] = inside.get(other, 0.0) + weight * factor
        found = []
        n = len(self)
        for effect, coefficient in inside.items():
            contrast, freedom = self._contrasts[effect], self._freedom(effect)
            mean = contrast.mean(axis=0)
            square = float(np.square(mean).sum()) / freedom
            noise = float(np.square(contrast - mean).sum()) / (freedom * (n - 1)) / n
            found += [(coefficient, square, freedom), (-coefficient, noise, freedom * (n - 1))]
        return found

    def _moebius(self, effect: Effect) -> dict[Effect, float]:
        """A component as a sum of moments, by their effects."""
        return {
            other: (-1.0) ** (len(other) - len(effect)) * self._cells(effect) / self._cells(other)
            for other in self.effects
            if effect <= other
        }


def _limits(square: float, freedom: int) -> Interval:
    """The 95 % interval of the mean that a mean square has, from chi-square."""
    from scipy.special import chdtri

    # chdtri has the upper tail
    return Interval(square * freedom / float(chdtri(freedom, 0.025)), square * freedom / float(chdtri(freedom, 0.975)))


def combined(parts: Sequence[tuple[float, Interval | None]]) -> tuple[float, Interval | None]:
    """A sum of estimates that are independent of each other, with its interval (Zou and Donner 2008).

    None where any of them has no interval but is not 0.
    """
    value = sum(part for part, _ in parts)
    known = [(part, interval) for part, interval in parts if interval is not None]
    if not known or any(interval is None and part != 0 for part, interval in parts):
        return value, None
    low = math.sqrt(sum((part - interval.low) ** 2 for part, interval in known))
    high = math.sqrt(sum((interval.high - part) ** 2 for part, interval in known))
    return value, Interval(value - low, value + high)
