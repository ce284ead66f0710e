"""Figures of dots and of curves as inline SVG, an arm told from another by colour, shape and dash."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markupsafe import Markup

from harness.report.figures import STYLES, Panel
from harness.report.plots import Dot, Plot, Scale, Series
from harness.report.svg import Axis, line, svg, tag, text
from harness.report.text import count, figure, span

__all__ = ["SHAPES", "left_out_line", "plotted", "swatch"]

WIDTH, HEIGHT = 340, 280
LEFT, RIGHT, TOP, BOTTOM = 44, 326, 24, 238
# a ring, a square, a triangle, a diamond, a cross and a bar, each about its middle
SHAPES = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0",
    "m-3-3h6v6h-6z",
    "m0-4l4 7h-8z",
    "m0-4l4 4-4 4-4-4z",
    "m-3-3l6 6m0-6l-6 6",
    "m-4 0h8",
)


def plotted(plot: Plot) -> Panel:
    """A plot as a figure; each dot says on hovering what it is, but in a sample, which is to be small."""
    across, up = _axis(plot.across, LEFT, RIGHT), _axis(plot.up, BOTTOM, TOP)
    parts = [*_scales(plot, across, up)]
    if plot.joined:
        parts.append(line(across.at(0), up.at(0), across.at(1), up.at(1), "chance"))
    for one in plot.series:
        parts += _joined(one, across, up) if plot.joined else ()
        parts += _dots(plot, one, across, up)
    label = f"{plot.title}: {plot.up.label} by {plot.across.label}"
    keys = tuple((f"r{one.style % STYLES}", one.label) for one in plot.series)
    return Panel(plot.title, svg(WIDTH, HEIGHT, parts, label, "chart joined" if plot.joined else "chart"), keys)


def _dots(plot: Plot, one: Series, across: Axis, up: Axis) -> Iterator[Markup]:
    shape, style = SHAPES[one.style % STYLES], f"spot r{one.style % STYLES}"
    places = [(_place(plot.across, across, dot.x), _place(plot.up, up, dot.y), dot) for dot in one.dots]
    if plot.left_out:
        yield tag("path", d="".join(f"M{x:.0f} {y:.0f}{shape}" for x, y, _ in places), class_=style)
        return
    for x, y, dot in places:
        yield tag("path", d=f"M{x} {y}{shape}", class_=style, title=_told(plot, one, dot))


def _told(plot: Plot, one: Series, dot: Dot) -> str:
    x, y = _value(plot.across, dot.x), _value(plot.up, dot.y)
    told = f"{plot.across.label} {x}, {plot.up.label} {y} {span(dot.interval)}".strip()
    return ", ".join(part for part in (dot.name, one.label, told) if part)


def _joined(one: Series, across: Axis, up: Axis) -> Iterator[Markup]:
    style = f"r{one.style % STYLES}"
    for dot in one.dots:
        if dot.interval is not None:
            x = across.at(dot.x)
            yield line(x, up.at(dot.interval[0]), x, up.at(dot.interval[1]), f"error {style}")
    path = "L".join(f"{across.at(dot.x)} {up.at(dot.y)}" for dot in one.dots)
    yield tag("path", d=f"M{path}", class_=f"line {style}")


def _scales(plot: Plot, across: Axis, up: Axis) -> Iterator[Markup]:
    for at, told in _ticks(plot.up, up):
        yield line(LEFT, at, RIGHT, at, "grid")
        yield text(LEFT - 6, at + 4, told, "tick end")
    for at, told in _ticks(plot.across, across):
        yield line(at, TOP, at, BOTTOM, "grid")
        yield text(at, BOTTOM + 16, told, "tick middle")
    if plot.up.chance is not None:
        yield line(LEFT, up.at(plot.up.chance), RIGHT, up.at(plot.up.chance), "chance")
    if plot.across.chance is not None:
        yield line(across.at(plot.across.chance), TOP, across.at(plot.across.chance), BOTTOM, "chance")
    yield text((LEFT + RIGHT) / 2, HEIGHT - 8, plot.across.label, "middle")
    yield text(8, 12, plot.up.label, "")
    yield tag("path", d=f"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}", class_="base frame")


def _axis(scale: Scale, start: float, stop: float) -> Axis:
    low, high = (math.log10(scale.low), math.log10(scale.high)) if scale.logarithmic else (scale.low, scale.high)
    return Axis(low, high, start, stop)


def _place(scale: Scale, axis: Axis, value: float) -> float:
    return axis.at(math.log10(value) if scale.logarithmic else value)


def _value(scale: Scale, value: float) -> str:
    return f"{100 * value:.2g} %" if scale.logarithmic else figure(value)


def _ticks(scale: Scale, axis: Axis) -> Iterator[tuple[float, str]]:
    """Where ticks stand and what they say; powers of ten with their fives and twos where these are few."""
    if not scale.logarithmic:
        yield from ((axis.at(tick), told) for tick, told in axis.labels(5))
        return
    tens = range(math.floor(axis.low), math.ceil(axis.high) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [factor * 10.0**ten for ten in tens for factor in factors]
        inside = [tick for tick in found if axis.low - 1e-9 <= math.log10(tick) <= axis.high + 1e-9]
        if len(inside) >= 3:
            break
    for tick in inside:
        yield axis.at(math.log10(tick)), f"{100 * tick:.4g} %"


def left_out_line(plot: Plot) -> str:
    """How many dots are drawn of how many; empty where all are."""
    drawn = sum(len(one.dots) for one in plot.series)
    return f"{count(drawn)} of {count(drawn + plot.left_out)} dots, drawn at random." if plot.left_out else ""


def swatch(style: str, *, joined: bool) -> Markup:
    """How an arm is drawn, for a legend."""
    parts = [tag("path", d="M0 6H26", class_=f"line {style}")] if joined else []
    parts.append(tag("path", d=f"M13 6{SHAPES[int(style[1:])]}", class_=f"spot {style}"))
    head = Markup('<svg width="26" height="12" aria-hidden="true">')
    return head + Markup("").join(parts) + Markup("</svg>")
