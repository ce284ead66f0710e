"""Reads a run into what a report shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from harness.analysis.load import Run
from harness.errors import UserError
from harness.report.data import ReportData
from harness.report.grids import grids
from harness.report.header import header
from harness.report.latents import latents
from harness.report.ratings import ratings
from harness.report.reading import Reading
from harness.report.selecting import SELECTED, selected
from harness.report.tables import all_scores, comparisons, curves, populations, summary_rows
from harness.report.thinning import KEPT, thinned

__all__ = ["WHOLE", "gather"]

# up to so many latents a report has every example
WHOLE = 500


def gather(run: Run, only: Collection[int] | None = None) -> ReportData:
    """Everything a report shows of a run, finished or not; with `only` of all latents those of these indices.

    Examples are drawn again from the store, exactly as the run drew them; where the store is gone the report has none
    and says so. Of a large run (`Run.large`) only some latents have a page (`harness.report.selecting`). Of more than
    `WHOLE` latents only some examples are kept (`harness.report.thinning`); it says so, too.

    Raises:
        UserError: the run has no latent of an index.
    """
    reading = Reading(run)
    known = {index for indices in run.latents.values() for index in indices}
    if missing := sorted(set(only or ()) - known):
        raise UserError(f"{run.path} has no latent {missing[0]}")
    many = only is None and sum(map(len, run.latents.values())) > WHOLE
    pages = reading
    if run.large:
        pages = Reading(run.part(selected(reading) if only is None else dict.fromkeys(run.latents, only)))
    found = latents(pages, only)
    told = header(reading)
    return ReportData(
        header=replace(told, notes=(*told.notes, *_notes(reading, only, many=many))),
        arms=reading.arms,
        scorers=reading.scorers,
        summary=tuple(summary_rows(reading)),
        comparisons=tuple(comparisons(reading)),
        curves=tuple(curves(reading)),
        latents=tuple(map(thinned, found) if many else found),
        populations=tuple(populations(reading)),
        ratings=ratings(reading),
        grids=tuple(grids(reading)),
        scores=all_scores(reading) if run.large else None,
    )


def _notes(reading: Reading, only: Collection[int] | None, *, many: bool) -> Iterator[str]:
    count = sum(map(len, reading.whole.latents.values()))
    if only is not None:
        yield f"All figures are of the run's {count:,} latents; this report shows the examples of some of them."
    if reading.whole.large:
        looked = sum(map(len, reading.run.latents.values()))
        yield (
            f"There are {count:,} latents. Means, lifts, differences, histograms, curves, correlations, costs and "
            "counts are of all of them. What needs single verdicts (permuted truth, reliability, calibration, firing "
            f"rates, disagreements, dots) is of the first {looked:,} in the seeded order, a random sample. "
            + (SELECTED if only is None else "")
        )
    if many:
        whose = "the latents with a page" if reading.whole.large else f"these {count:,} latents"
        yield (
            f"Of each of {whose} {KEPT} scored examples are shown: two of each fifth of its "
            "activations, and the two judged worst. With --latents 3,14 a report has all examples of some latents."
        )
