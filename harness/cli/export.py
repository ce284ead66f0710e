"""`harness export`: writes a run's results in a format of the field."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Format", "export"]

# files that are named; of more a folder's name says enough
_NAMED = 12


class Format(StrEnum):
    """Formats to export to."""

    jsonl = "jsonl"
    neuronpedia = "neuronpedia"
    saebench = "saebench"
    saedashboard = "saedashboard"
    openai = "openai"
    delphi = "delphi"
    inspect = "inspect"
    parquet = "parquet"
    huggingface = "huggingface"


def export(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    out: Annotated[Path, typer.Option(help="The folder to write into; but for jsonl nothing may be there.")],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.jsonl,
    explainer: Annotated[str | None, typer.Option(help="saebench, delphi: this explainer's explanations.")] = None,
    scorer: Annotated[str | None, typer.Option(help="saebench: by this scorer.")] = None,
    model_id: Annotated[str | None, typer.Option(help="The subject's name on Neuronpedia.")] = None,
    source: Annotated[
        list[str] | None, typer.Option(metavar="CODER=SOURCE", help="A coder's source there, such as sae=6-res-jb.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="neuronpedia: the explanations' type, one that it knows.")] = None,
) -> None:
    """Write explanations and scores as files of this or another project."""
    from harness.analysis.load import load
    from harness.errors import UserError
    from harness.interop.exporting import Options
    from harness.interop.exporting import export as write

    sources = {}
    for given in source or ():
        name, equals, value = given.partition("=")
        if not (name and equals and value):
            raise UserError(f"--source {given}: give a coder and its source, such as sae=6-res-jb")
        sources[name] = value
    paths, notes = write(load(run), out, format_.value, Options(explainer, scorer, model_id, sources, method))
    if len(paths) > _NAMED:
        typer.echo(f"{out}: {len(paths)} files")
    else:
        for path in paths:
            typer.echo(str(path))
    for note in notes:
        typer.echo(note)
