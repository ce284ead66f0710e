"""`harness analyse`: every table of one or several runs, to read or to go on with."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Format", "analyse", "written"]

# characters of a line beyond which a row is read better as a list
_WIDEST = 200


class Format(StrEnum):
    """How a table is written."""

    text = "text"
    csv = "csv"
    markdown = "markdown"
    json = "json"


def analyse(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, one or several.")],
    table: Annotated[str, typer.Option(help="Which table; see above.")] = "arms",
    scorer: Annotated[str | None, typer.Option(help="Only this scorer; all if not given.")] = None,
    metric: Annotated[str | None, typer.Option(help="The figure; each scorer's own if not given.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.text,
    out: Annotated[Path | None, typer.Option(help="A file to write it to instead of printing it.")] = None,
) -> None:
    """Print or write a table of runs; several runs make one table that says in what their tasks differ.

    Tables: arms, differences, latents, quantiles, layers, interventions, regressions, pairs, firing,
    calibration, disagreements, choices, correlations, reliabilities, costs, explanations, scores, figures, verdicts.
    """
    from harness.analysis.analyse import analyse as made

    text = written(made(*runs, table=table, scorer=scorer, metric=metric), format_)
    if out is None:
        typer.echo(text, nl=False)
        return
    from harness.errors import RunError

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror}") from error
    typer.echo(f"{len(text.splitlines()):,} lines written to {out}")


def written(table: pd.DataFrame, format_: Format) -> str:
    """A table as text that ends in a line break."""
    if format_ is Format.csv:
        return table.to_csv(index=False)
    if format_ is Format.json:
        # what is missing is null
        records = json.loads(str(table.to_json(orient="records", double_precision=15)))
        return json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    rows = [[_cell(value, format_) for value in row] for row in table.itertuples(index=False, name=None)]
    names = [str(name) for name in table.columns]
    if format_ is Format.markdown:
        lines = [names, ["---"] * len(names), *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return _read(names, rows)


def _read(names: list[str], rows: list[list[str]]) -> str:
    """For a reader: columns side by side, or, where they are too wide for that, below each other.

    Those in which nothing stands are left out.
    """
    kept = [at for at in range(len(names)) if any(row[at] for row in rows)] or list(range(len(names)))
    wide = {at: max(len(names[at]), *(len(row[at]) for row in rows)) if rows else len(names[at]) for at in kept}
    numbers = {at for at in kept if rows and all(_is_number(row[at]) for row in rows if row[at])}
    if sum(wide.values()) + 2 * len(wide) > _WIDEST:
        longest = max(len(names[at]) for at in kept)
        return "\n".join("".join(f"{names[at]:{longest}}  {row[at]}\n" for at in kept if row[at]) for row in rows)
    lines = [names, *rows]
    return "".join(
        "  ".join(line[at].rjust(wide[at]) if at in numbers else line[at].ljust(wide[at]) for at in kept).rstrip()
        + "\n"
        for line in lines
    )


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _cell(value: Any, format_: Format) -> str:
    from harness.report.text import visible

    if value is None or value != value or str(value) == "<NA>":  # NaN alone is not itself
        return ""
    if isinstance(value, float):
        text = f"{value:.4g}"
    elif isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    text = visible(text)
    return text.replace("|", "\\|") if format_ is Format.markdown else text
