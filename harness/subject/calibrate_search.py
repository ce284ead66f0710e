"""The search for a strength whose KL divergence is a target: from a curve's points, the next one or the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

__all__ = ["Calibration", "Point", "Status", "search"]

Status = Literal["ok", "saturated", "nonmonotone", "nonfinite", "max_rounds"]

# KL grows with the square of a small strength: the first guess of the slope in log-log.
_SLOPE = 2.0
# More than four times the strength for less than 2 % more KL: the curve is flat and will stay so.
_FLAT_STEP, _FLAT_GAIN = 4.0, 1.02
# A curve falls where KL is less than it was at a smaller strength by more than rounding explains.
_FALL = 0.95
# After so many points between two brackets only halving is safe.
_PATIENCE = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A strength that was tried, and the mean KL in nats that it gave; not finite where logits were not."""

    strength: float
    kl: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The strength that comes nearest to a target KL, both in nats, and how the search for it ended.

    `ok`: within the tolerance on a curve that never fell. `nonmonotone`: KL was seen to fall with strength; the
    strength is the first upward crossing of the target, or the highest point found below it. `saturated`: KL stays
    below the target however strong. `nonfinite`: beyond some strength logits are no numbers, and below it the
    target is not reached. `max_rounds`: not found in time.
    """

    latent: int
    target: float
    strength: float
    kl: float
    status: Status
    points: tuple[Point, ...]
    """The latent's whole curve, by strength; shared by its targets."""


Measure = Callable[[Sequence[tuple[int, float]]], Sequence[float]]
"""From (latent, strength) pairs, the mean KL of each in nats."""


def search(
    measure: Measure,
    starts: dict[int, float],
    targets: Sequence[float],
    *,
    tolerance: float = 0.1,
    max_rounds: int = 16,
) -> list[Calibration]:
    """Every latent's strength for every target, latent by latent; all latents are measured together each round.

    `starts` are the latents' first strengths, above zero. A latent's targets share its points. The search is
    interpolation in log-log between the first point that reaches the target and the one before, halving where that
    makes no headway.
    """
    curves: dict[int, list[Point]] = {latent: [] for latent in starts}
    for _ in range(max_rounds):
        wanted = [
            (latent, strength)
            for latent, start in starts.items()
            for strength in _wanted(curves[latent], start, targets, tolerance)
        ]
        if not wanted:
            break
        for (latent, strength), kl in zip(wanted, measure(wanted), strict=True):
            curves[latent] = sorted([*curves[latent], Point(strength, float(kl))], key=lambda point: point.strength)
    return [_verdict(latent, curves[latent], target, tolerance) for latent in starts for target in targets]


def _wanted(curve: Sequence[Point], start: float, targets: Sequence[float], tolerance: float) -> list[float]:
    """The strengths to try next for all targets, without near doubles."""
    found: list[float] = []
    for target in targets:
        strength = _next(curve, start, target, tolerance)
        if strength is not None and all(abs(math.log(strength / other)) > tolerance / 4 for other in found):
            found.append(strength)
    return found


def _next(curve: Sequence[Point], start: float, target: float, tolerance: float) -> float | None:
    """The next strength to try for one target; None where there is nothing more to find."""
    if not curve:
        return start
    if _hit(curve, target, tolerance) is not None:
        return None
    reached = next((place for place, point in enumerate(curve) if not point.kl < target), None)
    if reached is None:
        return _further(curve, target)
    above = curve[reached]
    if reached == 0:
        factor = (target / above.kl) ** (1 / _SLOPE) if math.isfinite(above.kl) else 1 / 16
        return above.strength * min(0.7, max(1 / 64, factor))
    below = curve[reached - 1]
    if above.strength / below.strength < 1 + 1e-4:
        return None
    return _between(below, above, target, len(curve))


def _between(below: Point, above: Point, target: float, tried: int) -> float:
    """A strength inside the bracket: by interpolation, away from the ends, or halfway."""
    width = math.log(above.strength / below.strength)
    share = 0.5
    if tried % _PATIENCE and below.kl > 0 and math.isfinite(above.kl):
        share = math.log(target / below.kl) / math.log(above.kl / below.kl)
    return below.strength * math.exp(width * min(0.9, max(0.1, share)))


def _further(curve: Sequence[Point], target: float) -> float | None:
    """A strength where the target may yet be reached: beyond the last point, or beside a peak."""
    last = curve[-1]
    peak = max(range(len(curve)), key=lambda place: curve[place].kl)
    if last.kl < _FALL * curve[peak].kl:
        return _beside(curve, peak)
    if _is_flat(curve):
        return None
    slope = _SLOPE
    if len(curve) > 1 and curve[-2].kl > 0 and last.kl > curve[-2].kl:
        slope = math.log(last.kl / curve[-2].kl) / math.log(last.strength / curve[-2].strength)
    factor = (target / last.kl) ** (1 / max(slope, 0.5)) if last.kl > 0 else 64.0
    return last.strength * min(64.0, max(1.5, factor))


def _beside(curve: Sequence[Point], peak: int) -> float | None:
    """Halfway to the farther neighbour of a curve's highest point, until both are near; below it if it is the first."""
    top = curve[peak].strength
    if peak == 0:
        return top / 2
    others = [curve[place].strength for place in (peak - 1, peak + 1) if place < len(curve)]
    far = max(others, key=lambda strength: abs(math.log(strength / top)))
    return math.sqrt(top * far) if abs(math.log(far / top)) > math.log(1.1) else None


def _is_flat(curve: Sequence[Point]) -> bool:
    last = curve[-1]
    before = [point for point in curve if point.strength * _FLAT_STEP <= last.strength]
    return bool(before) and before[-1].kl > 0 and last.kl < _FLAT_GAIN * before[-1].kl


def _hit(curve: Sequence[Point], target: float, tolerance: float) -> Point | None:
    """The smallest strength tried that gives the target within the tolerance."""
    return next((point for point in curve if abs(point.kl - target) <= tolerance * target), None)


def _verdict(latent: int, curve: Sequence[Point], target: float, tolerance: float) -> Calibration:
    points = tuple(curve)
    finite = [point for point in curve if math.isfinite(point.kl)]
    hit = _hit(curve, target, tolerance)
    if not finite:
        smallest = curve[0] if curve else Point(math.nan, math.nan)
        return Calibration(latent, target, smallest.strength, smallest.kl, "nonfinite", points)
    best = hit or min(finite, key=lambda point: abs(math.log(max(point.kl, 1e-12) / target)))
    falls = any(after.kl < _FALL * before.kl for before, after in pairwise(finite))
    if falls:
        status: Status = "nonmonotone"
    elif hit is not None:
        status = "ok"
    elif len(finite) < len(curve) and all(point.kl < target for point in finite):
        status = "nonfinite"
    elif all(point.kl < target for point in finite) and _is_flat(finite):
        status = "saturated"
    else:
        status = "max_rounds"
    return Calibration(latent, target, best.strength, best.kl, status, points)
