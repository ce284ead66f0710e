"""`harness rate`: people judge a run's explanations in a browser, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.analysis.load import Run
    from harness.rating.book import Book
    from harness.rating.results import Borne
    from harness.rating.server import RatingServer

__all__ = ["rate"]


def rate(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    latents: Annotated[int, typer.Option(min=1, help="Only the first so many latents of each coder.")] = 20,
    contexts: Annotated[int, typer.Option(min=1, help="Contexts of each explanation.")] = 5,
    explainer: Annotated[list[str] | None, typer.Option(help="Only this explainer's; may be given again.")] = None,
    controls: Annotated[bool, typer.Option(help="Mix the controls' explanations in.")] = True,
    write: Annotated[bool, typer.Option("--write", help="Ask for explanations in own words, show none.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the page is served; 0 takes any.")] = 8642,
    host: Annotated[str, typer.Option(help="The address to listen on; others can then reach it.")] = "127.0.0.1",
    sheet: Annotated[Path | None, typer.Option(help="Write the page as one offline HTML file, and stop.")] = None,
    read: Annotated[list[Path] | None, typer.Option(help="Take in what such a page saved, and stop.")] = None,
    results: Annotated[bool, typer.Option("--results", help="Print what the ratings say, and stop.")] = False,
    explanations: Annotated[
        Path | None, typer.Option(help="Write what a person wrote as a list of explanations, and stop.")
    ] = None,
    rater: Annotated[str | None, typer.Option(help="With --explanations: whose, where there are several.")] = None,
) -> None:
    """Serve a page on which people rate explanations, blind to who wrote them; Ctrl-C ends it."""
    from contextlib import closing

    from harness.analysis.load import load
    from harness.rating.book import Book
    from harness.rating.items import Selection, items_of
    from harness.rating.server import RatingServer
    from harness.rating.session import Session
    from harness.rating.sheet import read_sheet, write_sheet
    from harness.rating.written import write_explanations

    with closing(load(run)) as loaded, closing(Book(run)) as book:
        if results:
            _print_results(loaded, book)
            return
        if explanations is not None:
            count = write_explanations(book, explanations, rater)
            typer.echo(f"{explanations}: {count} explanations")
            return
        if read:
            for path in read:
                name, count = read_sheet(path, book)
                typer.echo(f"{name}: {count} answers")
            return
        kind = "write" if write else "rate"
        items = items_of(loaded, Selection(latents, contexts, tuple(explainer or ()), controls, kind))
        if sheet is not None:
            book.know(items)
            write_sheet(loaded.name, items, loaded.seed, sheet)
            typer.echo(f"{sheet}: {len(items)} items")
            return
        session = Session(book, items, loaded.seed)
        _serve(RatingServer(session, book.token, f"Rating {loaded.name}", host=host, port=port), len(items))


def _serve(server: RatingServer, count: int) -> None:
    with server:
        try:
            typer.echo(f"{count} items at {server.url}")
            typer.echo("every answer is kept at once; Ctrl-C ends it, and the same command goes on")
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            typer.echo("")


def _print_results(run: Run, book: Book) -> None:
    from rich.table import Table
    from rich.text import Text

    from harness.cli.show import console
    from harness.rating.results import results
    from harness.report.ratings import agreement_line, latent_line, raters_line
    from harness.report.text import figure, metric_name, visible

    found, screen = results(run, book), console()
    screen.print(Text(visible(raters_line(found)), "bold"))
    if not found.latents:
        return
    screen.print(Text(agreement_line(found.agreement)))
    table = Table()
    table.add_column("mean rating, 1 to 4")
    for name in ("mean", "95 % interval", "latents", "ratings"):
        table.add_column(name, justify="right")
    for arm in found.arms:
        ends = "" if arm.interval is None else f"[{figure(arm.interval.low)}, {figure(arm.interval.high)}]"
        cells = (visible(arm.label), figure(arm.mean), ends, str(arm.latents), str(arm.ratings))
        table.add_row(*map(Text, cells))
    screen.print(table)
    grid = Table()
    grid.add_column("Spearman with people")
    for name in ("explainers' own", "with controls"):
        grid.add_column(name, justify="right")
    for one in found.scorers:
        grid.add_row(Text(visible(f"{one.scorer}, {metric_name(one.metric)}")), *(Text(cell) for cell in _cells(one)))
    screen.print(grid)
    for each in found.latents:
        screen.print(Text(visible(latent_line(each))))


def _cells(one: Borne) -> tuple[str, str]:
    from harness.report.ratings import borne_cell

    return borne_cell(one.own), borne_cell(one.every)
