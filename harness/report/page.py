"""A report as one HTML file that needs nothing else: no network, no other file, no particular browser."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.report import figures, text, words
from harness.report.data import Comparison, ReportData, ScorerLine, SummaryRow
from harness.report.evidence import LatentReport, ScoreLine
from harness.report.judges import cells, judge_lines
from harness.report.payload import payload
from harness.report.plotting import left_out_line, plotted, swatch
from harness.report.ratings import agreement_line, borne_cell, raters_line
from harness.report.spending import failed_attempts, total_dollars
from harness.report.svg import Axis
from harness.runs.arms import NO_EXPLANATION
from harness.task import POPULATIONS

__all__ = ["page_parts", "render", "still_policy", "write"]

_FILES = Path(__file__).parent / "page"
# latents listed for readers without a script; more would only make the file large
LISTED = 500


@dataclass(frozen=True, slots=True)
class _Board:
    """The summary of one scorer on one rung: its rows in order, the controls of its real arms, and a common scale."""

    scorer: ScorerLine
    rung: str
    primary: bool
    rows: tuple[SummaryRow, ...]
    controls: tuple[str, ...]
    axis: Axis

    @property
    def nulls(self) -> bool:
        """Whether there is an exact null to show."""
        return any(row.permuted is not None for row in self.rows)

    def mark(self, row: SummaryRow) -> Markup:
        return figures.interval_mark(row, self.axis, self.scorer.chance)

    def scale(self) -> Markup:
        return figures.axis_marks(self.axis, self.scorer.chance)


def render(data: ReportData) -> str:
    """The whole page; the same data always give the same page."""
    style, script = _read("report.css"), _read("report.js")
    index, chunks = payload(data)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            data=data,
            ratings=data.ratings,
            header=data.header,
            policy=_policy(style, script),
            style=Markup(style),
            script=Markup(script),
            index=Markup(index),
            chunks=[Markup(chunk) for chunk in chunks],
            boards=list(_boards(data)),
            comparisons=_comparisons(data),
            histograms=[(scorer, figures.histograms(data, scorer)) for scorer in data.scorers],
            curves=[panel for scorer in data.scorers if (panel := figures.curves(data, scorer)) is not None],
            notices=[
                *words.model_free_lines(data.header.roles),
                *judge_lines(data.header.judges),
                *data.header.notes,
            ],
            grids={name: [g for g in data.grids if g.section == name] for name in ("scorers", "costs")},
            sheets=[(judge, judge.sheet) for judge in data.header.judges if judge.sheet is not None],
            listed=[_listed(data, latent) for latent in data.latents[:LISTED]],
        )
    )


def page_parts() -> tuple[Environment, str]:
    """The templates' environment and the pages' style, for pages without a script."""
    return _environment(), _read("report.css")


def still_policy(style: str) -> Markup:
    """A content security policy for a page without a script: nothing runs and nothing is fetched."""
    return Markup(f"default-src 'none'; style-src '{_sha(style)}'; base-uri 'none'; form-action 'none'")


def write(data: ReportData, path: Path) -> Path:
    """Write the page into a file, its folder made where it is missing, and return the path."""
    page = render(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FILES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": text.figure,
        "span": text.span,
        "count": text.count,
        "duration": text.duration,
        "metric": text.metric_name,
        "conclusion": words.conclusion,
        "evidence": words.evidence,
        "status": lambda status: text.STATUS_WORDS.get(status, status),
        "failed_attempts": failed_attempts,
        "total_dollars": total_dollars,
        "rung": lambda rung: words.RUNG_NOTES.get(rung, ""),
        "cells": lambda sheet: list(cells(sheet)),
        "raters_line": raters_line,
        "agreement_line": agreement_line,
        "borne_cell": borne_cell,
        "plotted": plotted,
        "swatch": swatch,
        "left_out_line": left_out_line,
        "note": lambda arm: words.CONTROL_NOTES.get(arm.control or "", ""),
        "control_note": lambda control: words.CONTROL_NOTES.get(control or "", "the task's own coders"),
        "percent": lambda rate: f"{100 * rate:.2f} %",
    }
    environment.tests["population"] = lambda control: control in POPULATIONS
    environment.tests["own"] = lambda row: row.arm.control in (None, NO_EXPLANATION)
    return environment


def _finalize(value: Any) -> Any:
    """Every string that enters the page is made visible first; autoescaping follows."""
    return text.visible(value, breaks=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _policy(style: str, script: str) -> Markup:
    """A content security policy that lets this page's own script and style run and nothing be fetched."""
    rules = [
        "default-src 'none'",
        f"script-src '{_sha(script)}'",
        f"style-src '{_sha(style)}'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    return Markup("; ".join(rules))


def _sha(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _read(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


def _boards(data: ReportData) -> Iterator[_Board]:
    primary = data.header.primary
    rungs = sorted(dict.fromkeys(row.rung for row in data.summary), key=lambda rung: rung != primary.rung)
    scorers = sorted(data.scorers, key=lambda s: s.name != primary.scorer)
    for rung, scorer in product(rungs, scorers):
        rows = [
            row
            for row in data.summary
            if row.scorer == scorer.name and row.metric == scorer.metric and row.rung == rung
        ]
        if rows:
            rows.sort(key=lambda row: (row.arm.control is not None, -(row.mean if row.mean is not None else -2)))
            own = [row for row in rows if row.arm.control in (None, NO_EXPLANATION)]
            controls = tuple(dict.fromkeys(lift.control for row in own for lift in row.lifts))
            axis = figures.score_axis(rows, scorer.chance)
            ranks = scorer.name == primary.scorer and rung == primary.rung
            yield _Board(scorer, rung, ranks, tuple(rows), controls, axis)


def _comparisons(data: ReportData) -> list[tuple[str, list[Comparison]]]:
    """Comparisons by scorer, the primary one first."""
    primary = data.header.primary.scorer
    names = sorted(dict.fromkeys(c.scorer for c in data.comparisons), key=lambda name: name != primary)
    return [(name, [c for c in data.comparisons if c.scorer == name]) for name in names]


def _listed(data: ReportData, latent: LatentReport) -> Mapping[str, Any]:
    """What a reader without a script sees of a latent."""
    scores = {(line.arm, line.scorer): line for line in latent.scores if line.rung == data.header.primary.rung}
    return {
        "latent": latent,
        "rows": [
            (line, [_told(scores.get((line.arm, s.name)), s.metric) for s in data.scorers])
            for line in latent.explanations
        ],
    }


def _told(line: ScoreLine | None, metric: str) -> str:
    if line is None:
        return ""
    return text.figure(line.metrics.get(metric)) if line.status == "ok" else text.STATUS_WORDS[line.status]
