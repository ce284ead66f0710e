"""Figures of dots put values where they belong, tell arms apart by shape, and say what they leave out."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from harness.report.plots import MOST_DOTS, Dot, Plot, Scale, Series, sampled
from harness.report.plotting import BOTTOM, LEFT, RIGHT, SHAPES, TOP, left_out_line, plotted, swatch

SCORE = Scale("fuzzing, balanced accuracy", 0.4, 1.0, 0.5)
RATE = Scale("share of windows that it fires in", 0.001, 0.1, logarithmic=True)


def _plot(dots: int = 3, **changes: object) -> Plot:
    """Two arms with as many dots each."""
    series = tuple(
        Series(label, style, tuple(Dot(0.4 + 0.6 * at / dots, 0.5, f"sae {at}") for at in range(dots)))
        for style, label in enumerate(("mini", "big"))
    )
    return Plot(**({"title": "t", "across": SCORE, "up": SCORE, "series": series} | changes))  # pyright: ignore[reportArgumentType] (a test's keywords)


def _spots(svg: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(svg) if (e.get("class") or "").startswith("spot")]


def _place(element: ET.Element) -> tuple[float, float]:
    found = re.match(r"M([\d.]+) ([\d.]+)", element.get("d") or "")
    assert found is not None
    return float(found[1]), float(found[2])


def test_dots_lie_at_their_values_from_left_to_right_and_from_below() -> None:
    dots = (Dot(0.4, 0.4), Dot(1.0, 1.0), Dot(0.7, 0.55))
    panel = plotted(_plot(series=(Series("mini", 0, dots),)))
    assert [_place(e) for e in _spots(panel.svg)] == [
        (LEFT, BOTTOM),
        (RIGHT, TOP),
        (pytest.approx((LEFT + RIGHT) / 2), pytest.approx(BOTTOM - (BOTTOM - TOP) / 4, abs=0.06)),
    ]


def test_a_logarithmic_scale_puts_equal_ratios_at_equal_distances() -> None:
    dots = tuple(Dot(rate, 0.5) for rate in (0.001, 0.01, 0.1))
    panel = plotted(_plot(across=RATE, series=(Series("mini", 0, dots),)))
    first, middle, last = (_place(e)[0] for e in _spots(panel.svg))
    assert middle - first == pytest.approx(last - middle, abs=0.11)
    ticks = [e.text for e in ET.fromstring(panel.svg) if e.get("class") == "tick middle"]
    assert ticks == ["0.1 %", "1 %", "10 %"]


@pytest.mark.parametrize(("low", "high"), [(0.012, 0.09), (0.2, 0.9), (1e-6, 0.7), (0.031, 0.034)])
def test_the_ticks_of_a_logarithmic_scale_are_inside_and_in_order(low: float, high: float) -> None:
    across = Scale("rate", low, high, logarithmic=True)
    svg = plotted(_plot(across=across, series=(Series("mini", 0, (Dot(low, 0.5),)),))).svg
    ticks = [
        float((e.text or "").removesuffix(" %")) / 100 for e in ET.fromstring(svg) if e.get("class") == "tick middle"
    ]
    assert ticks == sorted(ticks)
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)


def test_arms_have_shapes_of_their_own_and_the_legend_shows_them() -> None:
    panel = plotted(_plot())
    shapes = {e.get("class"): (e.get("d") or "").split("m", 1)[1] for e in _spots(panel.svg)}
    assert shapes == {"spot r0": SHAPES[0][1:], "spot r1": SHAPES[1][1:]}
    assert len(set(SHAPES)) == 6
    assert panel.keys == (("r0", "mini"), ("r1", "big"))
    for style, _ in panel.keys:
        assert SHAPES[int(style[1:])] in swatch(style, joined=False)
        assert 'class="line' in swatch(style, joined=True)


def test_a_dot_says_what_it_is_of() -> None:
    dot = Dot(0.61, 0.7, "sae 12", (0.6, 0.8))
    panel = plotted(_plot(series=(Series("mini", 0, (dot,)),)))
    (spot,) = _spots(panel.svg)
    assert spot.findtext("title") == (
        "sae 12, mini, fuzzing, balanced accuracy 0.61, fuzzing, balanced accuracy 0.70 [0.60, 0.80]"
    )


def test_chance_is_a_line_on_either_side_that_has_it() -> None:
    lines = [e for e in ET.fromstring(plotted(_plot(across=RATE)).svg) if e.get("class") == "chance"]
    assert len(lines) == 1
    assert float(lines[0].get("y1") or 0) == pytest.approx(BOTTOM - (BOTTOM - TOP) / 6, abs=0.06)
    both = [e for e in ET.fromstring(plotted(_plot()).svg) if e.get("class") == "chance"]
    assert len(both) == 2


def test_joined_dots_have_a_line_their_intervals_and_the_diagonal() -> None:
    share = Scale("share", 0, 1)
    dots = (Dot(0.1, 0.2, interval=(0.1, 0.3)), Dot(0.9, 0.8))
    root = ET.fromstring(plotted(_plot(across=share, up=share, joined=True, series=(Series("mini", 0, dots),))).svg)
    (whisker,) = [e for e in root if e.get("class") == "error r0"]
    assert (whisker.get("x1"), whisker.get("x2")) == (str(LEFT + 0.1 * (RIGHT - LEFT)),) * 2
    (diagonal,) = [e for e in root if e.get("class") == "chance"]
    assert [float(diagonal.get(k) or 0) for k in ("x1", "y1", "x2", "y2")] == [LEFT, BOTTOM, RIGHT, TOP]
    assert sum(e.get("class") == "line r0" for e in root) == 1


def test_a_large_plot_is_sampled_evenly_by_its_seed_and_says_so() -> None:
    whole = _plot(2000)
    some = sampled(whole, 7)
    assert some == sampled(whole, 7) != sampled(whole, 8)
    assert sum(len(one.dots) for one in some.series) == MOST_DOTS
    assert some.left_out == 4000 - MOST_DOTS
    for own, every in zip(some.series, whole.series, strict=True):
        assert set(own.dots) <= set(every.dots)
        assert list(own.dots) == sorted(own.dots, key=lambda dot: dot.x)
        # half of the dots are each arm's: three standard deviations of a draw without replacement
        assert abs(len(own.dots) - MOST_DOTS / 2) < 3 * math.sqrt(MOST_DOTS / 4)
    assert left_out_line(some) == "500 of 4,000 dots, drawn at random."
    # one path an arm, which keeps a large report small
    svg = plotted(some).svg
    assert len(_spots(svg)) == 2
    assert svg.count(SHAPES[0]) + svg.count(SHAPES[1]) == MOST_DOTS


def test_a_small_plot_is_whole() -> None:
    whole = _plot(MOST_DOTS // 2)
    assert sampled(whole, 1) is whole
    assert left_out_line(whole) == ""


def test_hostile_names_stay_text() -> None:
    attack = "</svg><script>x()</script>"
    scale = Scale(attack, 0, 1)
    panel = plotted(_plot(title=attack, across=scale, up=scale, series=(Series(attack, 0, (Dot(0, 0, attack),)),)))
    assert "<script" not in panel.svg
