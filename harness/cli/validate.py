"""`harness validate`: of which format files are, whether they are right, and what is wrong and where."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["validate"]


def validate(
    source: Annotated[Path, typer.Argument(help="A file or folder of this or another project.")],
    show: Annotated[int, typer.Option(min=1, help="The most problems to print.")] = 20,
) -> None:
    """Say which format a file or folder is of, and what is wrong in it; exit code 2 where something is."""
    from harness.interop.checking import check
    from harness.report.text import visible

    found = check(source)
    typer.echo(f"{source}: {', '.join(sorted(found.formats)) or 'of no known format'}")
    for what, count in found.kinds.items():
        typer.echo(f"  {count:,} {what}" if count > 1 else f"  {what}")
    if found.passed_over:
        typer.echo(
            f"  passed over, of no known format: {', '.join(found.passed_over[:3])}" + _more(found.passed_over, 3)
        )
    for problem in found.problems[:show]:
        typer.echo(visible(problem))
    if found.problems:
        typer.echo(
            f"{len(found.problems):,} wrong" + (f", of which {show} are shown" if len(found.problems) > show else "")
        )
        raise typer.Exit(2)
    typer.echo("right")


def _more(items: list[str], shown: int) -> str:
    return f" and {len(items) - shown} more" if len(items) > shown else ""
