"""`harness batches`: the batches of a run, what is out and what it may cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.runs.batch_rows import BatchRow

__all__ = ["batches"]


def batches(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    forget: Annotated[
        str | None,
        typer.Option(metavar="BATCH", help="Never collect this batch: its requests are asked, and paid, anew."),
    ] = None,
) -> None:
    """List the batches of a run as it last heard of them; no provider is asked."""
    import asyncio

    from harness.errors import RunError
    from harness.runs.directory import JOURNAL

    if not (run / JOURNAL).is_file():
        raise RunError(f"{run}: no run directory (there is no {JOURNAL} in it)")
    if forget is not None:
        asyncio.run(_forget(run, forget))
    _print(run)


async def _forget(run: Path, name: str) -> None:
    from harness.errors import RunError
    from harness.runs.batch_rows import BatchRows
    from harness.runs.directory import JOURNAL, held
    from harness.runs.journal import Journal

    with held(run):
        async with Journal(run / JOURNAL) as journal:
            rows = BatchRows(journal)
            found = [row for row in rows.batches() if name in (row.id, row.remote)]
            if not found:
                out = ", ".join(row.remote or row.id for row in rows.batches()) or "none"
                raise RunError(f"{run}: no batch {name} is out; out: {out}")
            await rows.forget(found[0].id)


def _print(run: Path) -> None:
    from typing import get_args

    from rich.table import Table
    from rich.text import Text

    from harness.cli.show import console
    from harness.report.text import count, visible
    from harness.runs.batch_rows import OUT, BatchRows, State
    from harness.runs.directory import JOURNAL
    from harness.runs.journal import Journal

    journal = Journal(run / JOURNAL)
    rows = BatchRows(journal)
    found = rows.batches([state for state in get_args(State) if state != "unsent"])
    screen = console()
    if not found:
        screen.print("nothing went by batch here")
        return
    shown = Table()
    for name in ("batch", "model", "state", "last heard"):
        shown.add_column(name, overflow="fold")
    for name in ("requests", "replies", "at most"):
        shown.add_column(name, justify="right")
    for row in found:
        bound = rows.bound(row.id).dollars if row.state in OUT else None
        cost = "" if row.state not in OUT else "not known" if bound is None else f"${bound:.4f}"
        cells = (row.remote or row.id, row.model, row.state, _heard(row), count(row.requests), count(row.replies), cost)
        shown.add_row(*(Text(visible(cell)) for cell in cells))
    screen.print(shown)
    out = [row for row in found if row.state in OUT]
    total = rows.bound()
    cost = "" if total.dollars is None else f", at most ${total.dollars:.4f}"
    requests = sum(row.requests for row in out)
    screen.print(Text(f"out: {len(out)} of {len(found)} batches with {count(requests)} requests{cost if out else ''}"))
    journal.close()


def _heard(row: BatchRow) -> str:
    import time

    from harness.report.text import duration

    told = f"{row.told}, " if row.told else ""
    return f"{told}{duration(max(time.time() - row.seen, 0.0))} ago"
