"""`harness report`: writes a run's HTML report again and prints its table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    out: Annotated[Path | None, typer.Option(help="The file; report/index.html in the run if not given.")] = None,
    latents: Annotated[
        str | None,
        typer.Option(metavar="N,N", help="Only these latents, with all examples; into report/latents.html."),
    ] = None,
) -> None:
    """Write the HTML report of a run and print its table."""
    from harness.analysis.load import load
    from harness.cli.show import print_results
    from harness.report import write_report

    loaded = load(run)
    if latents is not None:
        typer.echo(f"report: {write_report(loaded, out, _indices(latents))}")
        return
    write_report(loaded, out)
    print_results(loaded)


def _indices(text: str) -> tuple[int, ...]:
    from harness.errors import UserError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"--latents {text}: give the numbers of latents, such as --latents 3,14")
    return tuple(map(int, parts))
