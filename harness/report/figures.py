"""The report's figures as inline SVG: intervals, histograms and curves by quantile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from harness.report.data import Curve, CurvePoint, ReportData, ScorerLine, SummaryRow
from harness.report.evidence import Arm
from harness.report.svg import Axis, line, score_ends, svg, tag, text
from harness.report.text import count, figure

__all__ = ["Panel", "axis_marks", "curves", "histograms", "interval_mark", "score_axis"]

BINS = 20
# distinct arms by dash, marker and colour together, so that none of the three is needed
STYLES = 6


@dataclass(frozen=True, slots=True)
class Panel:
    """A figure with what it is called; `keys` explain its lines as (style class, text)."""

    title: str
    svg: Markup
    keys: tuple[tuple[str, str], ...] = ()


def score_axis(rows: Sequence[SummaryRow], chance: float, width: float = 240) -> Axis:
    """The scale on which arms of one scorer are set side by side: all intervals, and chance."""
    values = [chance, *(row.mean for row in rows if row.mean is not None)]
    values += [end for row in rows if row.interval is not None for end in row.interval]
    lowest, highest = score_ends(values, chance)
    low = max(lowest, math.floor((min(values) - 0.02) * 10) / 10)
    high = min(highest, math.ceil((max(values) + 0.02) * 10) / 10)
    return Axis(low, max(high, low + 0.1), 8, width - 8)


def interval_mark(row: SummaryRow, axis: Axis, chance: float) -> Markup:
    """A mean as a dot on its interval as a line, beside the line of chance."""
    middle = 12
    parts = [line(axis.at(chance), 0, axis.at(chance), 24, "chance")]
    if row.interval is not None:
        parts.append(line(axis.at(row.interval[0]), middle, axis.at(row.interval[1]), middle, "whisker"))
    if row.mean is not None:
        parts.append(tag("circle", cx=axis.at(row.mean), cy=middle, r=4.5, class_="dot"))
    label = f"{figure(row.mean, 3)}" + (
        f", 95 % {figure(row.interval[0], 3)} to {figure(row.interval[1], 3)}" if row.interval else ""
    )
    kind = "mark control" if row.arm.control else "mark"
    return svg(axis.stop + 8, 24, parts, label, kind)


def axis_marks(axis: Axis, chance: float) -> Markup:
    """The scale above interval marks, with chance named."""
    parts = [text(axis.at(tick), 22, told, "tick middle") for tick, told in axis.labels(4)]
    parts.append(text(axis.at(chance), 9, "chance", "tick middle quiet"))
    return svg(axis.stop + 8, 26, parts, "scale", "mark")


def histograms(data: ReportData, scorer: ScorerLine) -> tuple[Panel, ...]:
    """For each real arm the histogram of its latents' scores, its controls laid over as steps."""
    scores = {arm: _scores(data, arm, scorer) for arm in data.arms}
    reals = [arm for arm in data.arms if arm.control is None and scores[arm].size]
    low, high = score_ends(np.concatenate(list(scores.values())).tolist() if scores else (), scorer.chance)
    edges = np.linspace(low, high, BINS + 1)
    top = max((int(np.histogram(values, edges)[0].max()) for values in scores.values() if values.size), default=1)
    return tuple(_histogram(arm, scores, edges, top, scorer.chance) for arm in reals)


def curves(data: ReportData, scorer: ScorerLine) -> Panel | None:
    """Share of right verdicts from non-activating examples over the weakest to the strongest, a line an arm.

    Where nothing silent is asked about, as of interventions, there is no place for it.
    """
    found = [curve for curve in data.curves if curve.scorer == scorer.name and curve.points]
    if not found:
        return None
    quantiles = sorted({p.quantile for curve in found for p in curve.points if p.quantile is not None})
    width, height = 520, 250
    down = Axis(0, 1, height - 34, 12)
    across = Axis(min(quantiles, default=1), max(max(quantiles, default=1), min(quantiles, default=1) + 1), 110, 340)
    parts = _frame(down, 40, 350, 0.5)
    parts += [text(across.at(q), height - 18, str(q), "tick middle") for q in quantiles]
    if any(p.quantile is None for curve in found for p in curve.points):
        parts.append(text(64, height - 18, "silent", "tick middle"))
    parts.append(text(225, height - 3, "quantile of activation, weak to strong", "tick middle quiet"))
    ends = []
    for style, curve in zip(_styles([c.arm for c in found]), found, strict=True):
        parts.append(_curve(curve, style, across, down))
        ends.append((down.at(_last(curve.points)), style, curve.arm.label))
    parts += [text(356, y + 4, label, f"end {style}") for y, style, label in _apart(ends)]
    return Panel(scorer.name, svg(width, height, parts, f"share of right verdicts by quantile, {scorer.name}", "chart"))


def _histogram(
    arm: Arm, scores: dict[Arm, NDArray[np.float64]], edges: NDArray[np.float64], top: int, chance: float
) -> Panel:
    width, height = 360, 190
    across = Axis(float(edges[0]), float(edges[-1]), 34, width - 10)
    up = Axis(0, max(top, 1) * 1.06, height - 26, 8)
    parts = [line(34, up.at(t), width - 10, up.at(t), "grid") for t in up.ticks(4) if t == int(t)]
    parts += [text(28, up.at(t) + 4, count(t), "tick end") for t in up.ticks(4) if t == int(t)]
    parts += [text(across.at(t), height - 10, told, "tick middle") for t, told in across.labels(5)]
    parts.append(line(across.at(chance), up.at(0), across.at(chance), 8, "chance"))
    for n, left, right in zip(np.histogram(scores[arm], edges)[0], edges[:-1], edges[1:], strict=True):
        if n:
            x, y = across.at(left), up.at(float(n))
            parts.append(
                tag(
                    "rect",
                    x=x + 0.5,
                    y=y,
                    width=round(across.at(right) - x - 1, 1),
                    height=round(up.at(0) - y, 1),
                    class_="bar",
                )
            )
    controls = [other for other in scores if _controls(other, arm) and scores[other].size]
    keys = [("bar", arm.label)]
    for style, control in zip(_styles(controls), controls, strict=True):
        parts.append(_steps(np.histogram(scores[control], edges)[0], edges, across, up, style))
        keys.append((style, control.label))
    parts.append(line(34, up.at(0), width - 10, up.at(0), "base"))
    return Panel(arm.label, svg(width, height, parts, f"histogram of scores, {arm.label}", "chart"), tuple(keys))


def _controls(other: Arm, arm: Arm) -> bool:
    return other.control is not None and other.explainer in (arm.explainer, None)


def _scores(data: ReportData, arm: Arm, scorer: ScorerLine) -> NDArray[np.float64]:
    if data.scores is not None:
        return data.scores.get((arm, scorer.name), np.empty(0))
    rung = data.header.primary.rung
    values = [
        score.metrics[scorer.metric]
        for latent in data.latents
        for score in latent.scores
        if score.arm == arm and score.scorer == scorer.name and score.rung == rung and scorer.metric in score.metrics
    ]
    found = np.array(values, dtype=np.float64)
    return found[np.isfinite(found)]


def _steps(counts: NDArray[np.int64], edges: NDArray[np.float64], across: Axis, up: Axis, style: str) -> Markup:
    path = [f"M{across.at(edges[0])} {up.at(0)}"]
    for n, right in zip(counts, edges[1:], strict=True):
        path.append(f"V{up.at(float(n))}H{across.at(right)}")
    return tag("path", d="".join(path) + f"V{up.at(0)}", class_=f"line {style}")


def _curve(curve: Curve, style: str, across: Axis, down: Axis) -> Markup:
    places = [(64.0 if p.quantile is None else across.at(p.quantile), p) for p in curve.points]
    fires = [(x, down.at(p.share)) for x, p in places if p.quantile is not None]
    parts = [
        line(x, down.at(p.interval[0]), x, down.at(p.interval[1]), f"error {style}") for x, p in places if p.interval
    ]
    parts.append(tag("path", d="M" + "L".join(f"{x} {y}" for x, y in fires), class_=f"line {style}"))
    parts += [
        tag("circle", cx=x, cy=down.at(p.share), r=3, class_=f"point {style}", title=_told(curve, p)) for x, p in places
    ]
    return Markup("").join(parts)


def _told(curve: Curve, point: CurvePoint) -> str:
    where = "silent" if point.quantile is None else f"quantile {point.quantile}"
    return f"{curve.arm.label}, {where}: {figure(point.share, 3)} right of {count(point.n)}"


def _last(points: Sequence[CurvePoint]) -> float:
    return max(points, key=lambda p: -1 if p.quantile is None else p.quantile).share


def _styles(arms: Sequence[Arm]) -> list[str]:
    """A style class for each arm: `r0`, `r1`, ... for real arms and `c0`, `c1`, ... for controls."""
    seen = {False: 0, True: 0}
    found = []
    for arm in arms:
        control = arm.control is not None
        found.append(f"{'c' if control else 'r'}{seen[control] % STYLES}")
        seen[control] += 1
    return found


def _apart(ends: Iterable[tuple[float, str, str]], gap: float = 14) -> list[tuple[float, str, str]]:
    """Labels at their heights, moved down where they would overlap."""
    placed: list[tuple[float, str, str]] = []
    for y, style, label in sorted(ends):
        placed.append((max(y, placed[-1][0] + gap) if placed else y, style, label))
    return placed


def _frame(down: Axis, left: float, right: float, chance: float) -> list[Markup]:
    parts = [line(left, down.at(t), right, down.at(t), "grid") for t in down.ticks(5)]
    parts += [text(left - 6, down.at(t) + 4, told, "tick end") for t, told in down.labels(5)]
    return [*parts, line(left, down.at(chance), right, down.at(chance), "chance")]
