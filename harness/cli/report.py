"""`harness report`: writes a run's HTML report again and prints its table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    out: Annotated[Path | None, typer.Option(help="The file; report/index.html in the run if not given.")] = None,
) -> None:
    """Write the HTML report of a run and print its table."""
    from harness.analysis.load import load
    from harness.cli.show import print_results
    from harness.report import write_report

    loaded = load(run)
    write_report(loaded, out)
    print_results(loaded)
