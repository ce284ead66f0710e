"""Reads a run into what a report shows."""

from __future__ import annotations

from harness.analysis.load import Run
from harness.report.data import ReportData
from harness.report.header import header
from harness.report.latents import latents
from harness.report.ratings import ratings
from harness.report.reading import Reading
from harness.report.tables import comparisons, curves, populations, summary_rows

__all__ = ["gather"]


def gather(run: Run) -> ReportData:
    """Everything a report shows of a run, finished or not.

    Examples are drawn again from the store, exactly as the run drew them; where the store is gone the report has none
    and says so.
    """
    reading = Reading(run)
    return ReportData(
        header=header(reading),
        arms=reading.arms,
        scorers=reading.scorers,
        summary=tuple(summary_rows(reading)),
        comparisons=tuple(comparisons(reading)),
        curves=tuple(curves(reading)),
        latents=tuple(latents(reading)),
        populations=tuple(populations(reading)),
        ratings=ratings(reading),
    )
