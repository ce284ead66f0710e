"""`harness export`: writes a run's results in a format of the field."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Format", "export"]


class Format(StrEnum):
    """Formats to export to."""

    jsonl = "jsonl"


def export(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    out: Annotated[Path, typer.Option(help="The folder to write into.")],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.jsonl,  # noqa: ARG001 - one yet
) -> None:
    """Write explanations and scores as files."""
    from harness.analysis.load import load
    from harness.interop.jsonl import export as write

    for path in write(load(run), out):
        typer.echo(str(path))
