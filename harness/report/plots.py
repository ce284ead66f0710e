"""What a figure of dots or of curves shows, as frozen values: scorers against each other, calibration, firing rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["MOST_DOTS", "Dot", "Plot", "Scale", "Series", "sampled"]

# dots of one figure: more are a blot, and would make the file large
MOST_DOTS = 500


@dataclass(frozen=True, slots=True)
class Scale:
    """One direction of a figure: what it is of, and from where to where.

    `chance` is what guessing gets, where there is such a value. A `logarithmic` one has positive ends.
    """

    label: str
    low: float
    high: float
    chance: float | None = None
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """One value across and one up, what it is of, and the 95 % interval of the value up."""

    x: float
    y: float
    name: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The dots of one arm; `style` is its number among the run's real arms, the same in every figure."""

    label: str
    style: int
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure of all arms; with `joined` each one's dots are joined by a line, and the diagonal is what is right.

    `note` is said below it. `left_out` counts the dots that are not drawn (`sampled`).
    """

    title: str
    across: Scale
    up: Scale
    series: tuple[Series, ...]
    joined: bool = False
    note: str = ""
    left_out: int = 0


def sampled(plot: Plot, seed: int, most: int = MOST_DOTS) -> Plot:
    """A plot with at most so many dots, drawn evenly from all of them by the seed and in their order."""
    whole: Sequence[tuple[int, Dot]] = [(at, dot) for at, one in enumerate(plot.series) for dot in one.dots]
    if len(whole) <= most:
        return plot
    chosen = np.sort(np.random.default_rng(seed).choice(len(whole), most, replace=False)).tolist()
    kept: dict[int, list[Dot]] = {}
    for at, dot in (whole[place] for place in chosen):
        kept.setdefault(at, []).append(dot)
    series = tuple(replace(plot.series[at], dots=tuple(dots)) for at, dots in kept.items())
    return replace(plot, series=series, left_out=len(whole) - most)
