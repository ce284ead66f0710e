"""Figures put values where they belong."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.data import ReportData, ScorerLine, SummaryRow
from harness.report.evidence import Arm, ScoreLine
from harness.report.figures import curves, histograms, interval_mark, score_axis
from harness.report.svg import Axis

ROW = SummaryRow(Arm("mini"), "detection", "balanced_accuracy", 0.75, (0.7, 0.8), 40, 0)


def test_an_axis_maps_its_ends_and_keeps_values_inside() -> None:
    axis = Axis(0.4, 0.9, 10, 110)
    assert [axis.at(v) for v in (0.4, 0.65, 0.9, 2.0, -1.0)] == [10, 60, 110, 110, 10]


@given(st.floats(-1, 0.9), st.floats(0.05, 1))
def test_ticks_are_round_few_and_inside(low: float, length: float) -> None:
    ticks = Axis(low, low + length, 0, 1).ticks(5)
    assert 1 <= len(ticks) <= 6
    assert all(low - 1e-6 <= tick <= low + length + 1e-6 for tick in ticks)


@given(st.floats(-30, 30), st.floats(0.01, 60))
def test_ticks_say_where_they_stand_and_no_two_the_same(low: float, length: float) -> None:
    labels = Axis(low, low + length, 0, 1).labels(5)
    assert len({told for _, told in labels}) == len(labels)
    assert all(float(told.replace("−", "-")) == pytest.approx(at) for at, told in labels)


def test_ticks_have_one_decimal_where_that_tells_them_apart() -> None:
    assert [told for _, told in Axis(0, 1, 0, 1).labels(5)] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [told for _, told in Axis(0.4, 0.6, 0, 1).labels(4)] == ["0.40", "0.45", "0.50", "0.55", "0.60"]


def test_an_interval_mark_stands_at_its_values() -> None:
    axis = score_axis([ROW], 0.5)
    root = ET.fromstring(interval_mark(ROW, axis, 0.5))
    whisker = next(e for e in root if e.get("class") == "whisker")
    dot = next(e for e in root if e.get("class") == "dot")
    assert (whisker.get("x1"), whisker.get("x2")) == (str(axis.at(0.7)), str(axis.at(0.8)))
    assert dot.get("cx") == str(axis.at(0.75))
    assert root.get("aria-label") == "0.750, 95 % 0.700 to 0.800"


def test_an_arm_without_a_mean_has_only_the_line_of_chance() -> None:
    row = SummaryRow(Arm("mini"), "detection", "balanced_accuracy", None, None, 3, 3)
    root = ET.fromstring(interval_mark(row, score_axis([row], 0.5), 0.5))
    assert [e.get("class") for e in root] == ["chance"]


def test_histogram_bars_count_the_latents(data: ReportData) -> None:
    scorer = data.scorers[0]
    (panel,) = histograms(data, scorer)
    values = [
        line.metrics["balanced_accuracy"]
        for latent in data.latents
        for line in latent.scores
        if line.arm == data.arms[0] and line.scorer == scorer.name and line.status == "ok"
    ]
    counts = np.histogram(values, np.linspace(0, 1, 21))[0]
    root = ET.fromstring(panel.svg)
    heights = np.array([float(e.get("height", 0)) for e in root if e.get("class") == "bar"])
    assert len(heights) == np.count_nonzero(counts)
    assert heights / heights.max() == pytest.approx(counts[counts > 0] / counts.max(), abs=0.01)
    assert [label for _, label in panel.keys] == ["lexical", "lexical (shuffled)", "none"]


def test_a_curve_has_a_point_for_silence_and_for_each_quantile(data: ReportData) -> None:
    panel = curves(data, data.scorers[0])
    assert panel is not None
    root = ET.fromstring(panel.svg)
    titles = [e.findtext("title") or "" for e in root if (e.get("class") or "").startswith("point")]
    own = [title for title in titles if title.startswith("lexical,")]
    assert [title.split(": ")[0].removeprefix("lexical, ") for title in own] == [
        "silent",
        *(f"quantile {q}" for q in range(1, 11)),
    ]


def test_silence_has_a_place_only_where_something_silent_was_asked_about(data: ReportData) -> None:
    whole = curves(data, data.scorers[0])
    firing = replace(
        data,
        curves=tuple(
            replace(curve, points=tuple(p for p in curve.points if p.quantile is not None)) for curve in data.curves
        ),
    )
    part = curves(firing, data.scorers[0])
    assert whole is not None
    assert part is not None
    assert ">silent</text>" in whole.svg
    assert "silent" not in part.svg


def test_a_scorer_without_verdicts_has_no_curve(make_report: Callable[..., ReportData]) -> None:
    report = make_report(latents=2, each=20)
    assert curves(report, type(report.scorers[0])("simulation", "pearson", 0.0)) is None


def test_labels_of_curves_do_not_overlap(data: ReportData) -> None:
    panel = curves(data, data.scorers[1])
    assert panel is not None
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" class="end', panel.svg))
    assert len(heights) == 3
    assert min(np.diff(heights)) >= 12


def test_hostile_arm_names_stay_text_in_figures(data: ReportData) -> None:
    row = SummaryRow(Arm("</svg><script>x()</script>"), "d", "balanced_accuracy", 0.5, None, 1, 0)
    assert "<script" not in interval_mark(row, score_axis([row], 0.5), 0.5)
    assert histograms(data, data.scorers[0])


def test_figures_beyond_one_are_counted_and_stand_on_the_scale(data: ReportData) -> None:
    """Nats, unlike shares and correlations, have no ends."""
    rng = np.random.default_rng(3)
    drawn = rng.normal(0, 2, len(data.latents))
    arm, scorer = data.arms[0], ScorerLine("nats", "nats", 0.0)
    latents = tuple(
        replace(latent, scores=(ScoreLine(arm, "nats", "random", "ok", {"nats": float(value)}),))
        for latent, value in zip(data.latents, drawn, strict=True)
    )
    (panel,) = histograms(replace(data, latents=latents), scorer)
    heights = [float(e.get("height", 0)) for e in ET.fromstring(panel.svg) if e.get("class") == "bar"]
    counts = np.histogram(drawn, np.linspace(drawn.min(), drawn.max(), 21))[0]
    assert counts.sum() == len(drawn)
    assert np.array(heights) / max(heights) == pytest.approx(counts[counts > 0] / counts.max(), abs=0.01)
    axis = score_axis([replace(ROW, mean=-1.5, interval=(-2.3, 1.4))], 0.0)
    assert axis.low <= -2.3 < 1.4 <= axis.high
