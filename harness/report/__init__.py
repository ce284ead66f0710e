"""The HTML report of a run: one offline file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from harness.analysis.load import Run
from harness.report.data import ReportData
from harness.report.gather import gather
from harness.report.page import render, write
from harness.runs.directory import REPORT

__all__ = ["ReportData", "gather", "render", "write", "write_report"]


def write_report(run: Run, out: Path | None = None, latents: Collection[int] | None = None) -> Path:
    """Write a run's report into a file and return its path, `report/index.html` in the run directory unless given.

    With `latents` it has all examples of those, however many there are, and is `report/latents.html`.

    Raises:
        UserError: the run has no latent of an index.
    """
    name = REPORT if latents is None else REPORT.with_name("latents.html")
    return write(gather(run, latents), out or run.path / name)
