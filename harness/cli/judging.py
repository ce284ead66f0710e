"""What `harness judge` prints: a judge's sheets as one table, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rich.table import Table
from rich.text import Text

from harness.analysis.spending import spending
from harness.cli.show import console
from harness.judges.sheet import SHEET, Sheet
from harness.report.judges import cells, standing
from harness.report.spending import spent_line
from harness.report.text import count, visible
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal

__all__ = ["print_sheets"]


def print_sheets(sheets: Sequence[Sheet], directory: Path) -> None:
    """Print the sheets of one judge, a column each, and in words whether it is qualified."""
    screen = console()
    judge, items = sheets[0], sum(sheet.items for sheet in sheets)
    title = f"{judge.model} as a judge of {count(items)} planted items, asked {judge.date[:10]}"
    screen.print(Text(visible(title), "bold"))
    shown = Table()
    shown.add_column("with 95 % intervals")
    for sheet in sheets:
        shown.add_column(Text(visible(f"{sheet.scorer}, prompt {sheet.prompt}")), justify="right")
    for name, *values in _rows(sheets):
        shown.add_row(Text(name), *(Text(visible(value)) for value in values))
    screen.print(shown)
    for sheet in sheets:
        screen.print(Text(visible(f"{sheet.scorer}: {standing(sheet)}")))
    with closing(Journal(directory / JOURNAL)) as journal:
        if spent := spent_line(spending(journal)):
            screen.print(Text(visible(spent)))
    screen.print(Text(visible(f"sheet: {directory / SHEET}")))


def _rows(sheets: Sequence[Sheet]) -> Iterator[tuple[str, ...]]:
    columns = [dict(cells(sheet)) for sheet in sheets]
    for name in columns[0]:
        yield name, *(column[name] for column in columns)
