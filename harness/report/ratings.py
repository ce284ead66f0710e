"""What people's ratings say, in words and numbers as a report has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis.correlations import FEW
from harness.analysis.load import Run
from harness.metrics.agreement import Agreement
from harness.rating.book import Book
from harness.rating.results import LatentRating, Results, results
from harness.report.reading import Reading
from harness.report.text import count, figure, span

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["agreement_line", "borne_cell", "latent_line", "raters_line", "ratings"]


def ratings(reading: Reading) -> Results | None:
    """The results of a run's ratings, None where nobody has rated."""
    run: Run = reading.whole
    if not Book.there(run.path):
        return None
    book = Book(run.path)
    try:
        found = results(run, book, _rated(reading, book))
    finally:
        book.close()
    return found if found.latents else None


def _rated(reading: Reading, book: Book) -> pd.DataFrame:
    """The scores of the latents that were rated, and of others."""
    if not reading.whole.large:
        return reading.frame
    asked: dict[str, set[int]] = {}
    for item in book.items().values():
        asked.setdefault(item.coder, set()).add(item.latent)
    return reading.whole.part(asked).scores()


def raters_line(found: Results) -> str:
    """Who rated how much."""
    if not found.raters:
        return "Nobody has rated yet"
    who = ", ".join(f"{name} {count(number)}" for name, number in found.raters.items())
    return f"Ratings by {who}" + (f"; {count(found.skipped)} skipped" if found.skipped else "")


def agreement_line(found: Agreement) -> str:
    """How far raters agree."""
    if found.value is None:
        return "Krippendorff's alpha is not defined: too few items were rated by two"
    ends = None if found.interval is None else (found.interval.low, found.interval.high)
    told = f"Krippendorff's alpha (ordinal) {figure(found.value)} {span(ends)}".rstrip()
    return f"{told} over {count(found.items)} items that two or more of {found.raters} rated"


def borne_cell(told: tuple[float | None, tuple[float, float] | None, int, int]) -> str:
    """A correlation with its interval and over how many explanations it is."""
    value, interval, n, latents = told
    few = ", few" if latents < FEW else ""
    return f"{figure(value)} {span(interval)}".rstrip() + f" ({count(n)}{few})"


def latent_line(one: LatentRating) -> str:
    """One explanation's mean rating."""
    return f"{figure(one.mean)} ({count(one.ratings)} ratings) {one.coder}/{one.latent}, {one.label}: {one.text}"
