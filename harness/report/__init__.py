"""The HTML report of a run: one offline file."""

from __future__ import annotations

from pathlib import Path

from harness.analysis.load import Run
from harness.report.data import ReportData
from harness.report.gather import gather
from harness.report.page import render, write
from harness.runs.directory import REPORT

__all__ = ["ReportData", "gather", "render", "write", "write_report"]


def write_report(run: Run, out: Path | None = None) -> Path:
    """Write a run's report into a file, `report/index.html` in the run directory unless given; returns its path."""
    return write(gather(run), out or run.path / REPORT)
