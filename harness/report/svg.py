"""SVG as markup that is safe to put into a page: shapes, texts and scales."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from harness.report.text import figure, visible

__all__ = ["Axis", "line", "score_ends", "svg", "tag", "text"]


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale from values to SVG units."""

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """Where a value lies, kept inside the axis."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 1)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values, at most `most` of them and one."""
        step = self._step(most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 10) for index in range(first, last + 1)]

    def labels(self, most: int = 5) -> list[tuple[float, str]]:
        """Ticks with what they say: as many decimals as tell them apart, and at least one."""
        digits = max(1, -math.floor(math.log10(self._step(most)) + 1e-9))
        return [(tick, figure(tick, digits)) for tick in self.ticks(most)]

    def _step(self, most: int) -> float:
        rough = (self.high - self.low) / most
        power = 10 ** math.floor(math.log10(rough))
        return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)


def score_ends(values: Iterable[float], chance: float) -> tuple[float, float]:
    """Between which values figures lie: 0 or, of chance 0, -1 to 1; and beyond where one is, as nats can be."""
    found = [*values]
    return min([0.0 if chance > 0 else -1.0, *found]), max([1.0, *found])


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, words: str, class_: str) -> Markup:
    """A text with its baseline at a height."""
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(x, y, class_, visible(words))


def tag(name: str, *, title: str = "", **attributes: str | float) -> Markup:
    """An element, with a title that is shown on hovering."""
    told = Markup(" ").join(
        Markup('{}="{}"').format(Markup(key.rstrip("_")), value) for key, value in attributes.items()
    )
    inner = Markup("<title>{}</title>").format(visible(title)) if title else ""
    return Markup("<{0} {1}>{2}</{0}>").format(Markup(name), told, inner)


def svg(width: float, height: float, parts: Iterable[Markup], label: str, class_: str) -> Markup:
    """A whole figure, which a screen reader names by its label."""
    head = Markup(
        '<svg viewBox="0 0 {0:g} {1:g}" width="{0:g}" height="{1:g}" role="img" aria-label="{2}" class="{3}">'
    )
    return head.format(width, height, escape(visible(label)), class_) + Markup("").join(parts) + Markup("</svg>")
