"""`harness compare`: arms of one or several runs side by side, their differences, how scorers agree, and costs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.compare import RunComparison

__all__ = ["compare"]

# columns of numbers with intervals, which are read badly over two lines
_WHOLE = ("mean", "median", "a - b")
_KINDS = {"spearman": "Spearman", "pearson": "Pearson"}


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, one or several.")],
    metric: Annotated[str | None, typer.Option(help="The figure to compare by; the primary one if not given.")] = None,
    scorer: Annotated[str | None, typer.Option(help="The scorer to compare by; the primary one if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Compare arms on the same latents and examples, within a run and between runs."""
    from harness.analysis.compare import compare as compare_runs
    from harness.cli.show import console

    found = compare_runs(*runs, metric=metric, scorer=scorer)
    if as_json:
        typer.echo(json.dumps(_jsonable(found), indent=2, allow_nan=False))
        return
    _show(console(), found)


def _jsonable(found: RunComparison) -> dict[str, Any]:
    tables = ("arms", "differences", "correlations", "reliabilities", "costs")
    plain = {name: getattr(found, name) for name in ("runs", "scorer", "metric", "margin", "rung")}
    return plain | {name: _records(getattr(found, name)) for name in tables} | {"notes": found.notes}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    # pandas turns its own numbers into JSON's, and what is missing into null
    return json.loads(str(table.to_json(orient="records", double_precision=15)))


def _show(screen: Console, found: RunComparison) -> None:
    from harness.report.text import metric_name, visible

    rung = "" if found.rung == "random" else f" on rung {found.rung}"
    what = f"{metric_name(found.metric)} of {found.scorer}{rung}"
    _titled(
        screen, f"{what}: means over latents with failures at chance, medians without; 95 % intervals", _arms(found)
    )
    _trivial(screen, found)
    if len(found.differences):
        title = f"differences in {what}, on the latents that both have; sign-flip test, p by Holm"
        _titled(screen, title, _differences(found))
    if len(found.correlations):
        for kind, name in _KINDS.items():
            _titled(screen, f"{name} correlations of scorers over latents and explainers", _square(found, kind))
        screen.print(Text(_correlation_notes(found)))
    _titled(screen, "what one explanation of a latent, and one score of it, took: means over latents", _costs(found))
    for note in found.notes:
        screen.print(Text(visible(note)))


def _titled(screen: Console, title: str, table: Table) -> None:
    from harness.report.text import visible

    screen.print(Text(visible(title), "bold"))
    screen.print(table)


def _arms(found: RunComparison) -> Table:
    from harness.report.text import count

    table = _table("arm", ">latents", "mean", "median", ">failed", ">verdicts failed")
    for row in found.arms.to_dict("records"):
        undone = int(row["latents"]) - int(row["ok"]) + int(row["undefined"])
        mean, median = (_with_span(row, name) for name in ("mean_at_chance", "median"))
        _add(table, _arm(found, row), count(row["latents"]), mean, median, count(undone), count(row["failed_verdicts"]))
    return table


def _arm(found: RunComparison, row: Mapping[Any, Any]) -> str:
    return f"{row['run']}: {row['arm']}" if len(found.runs) > 1 else str(row["arm"])


def _trivial(screen: Console, found: RunComparison) -> None:
    """What knowing nothing gets."""
    from harness.report.text import figure

    known = [value for value in found.arms["trivial"].tolist() if not math.isnan(value)]
    if known:
        line = f"the best trivial answer (always, never, as often as it is) gets {figure(max(known), 3)}"
        screen.print(Text(line))


def _differences(found: RunComparison) -> Table:
    from harness.report.text import count, figure, p_value

    table = _table("a", "b", ">latents", "a - b", ">p", ">detectable", "outcome")
    for row in found.differences.to_dict("records"):
        ends = "" if _missing(row["low"]) else f" [{figure(row['low'], 3)}, {figure(row['high'], 3)}]"
        by = figure(row["difference"], 3, sign=True) + ends
        p = "" if _missing(row["p_adjusted"]) else p_value(row["p_adjusted"]).removeprefix("p ").removeprefix("= ")
        # which is higher stands in the row already
        outcome = "differ" if row["outcome"] == "differ" else row["sentence"]
        _add(table, row["a"], row["b"], count(row["n"]), by, p, figure(row["detectable"], 3), outcome)
    return table


def _square(found: RunComparison, kind: str) -> Table:
    """The upper half of the matrix of correlations, with each scorer's reliability on the diagonal."""
    rows = found.correlations.to_dict("records")
    names = list(dict.fromkeys([row["a"] for row in rows] + [row["b"] for row in rows]))
    cells = {(row["a"], row["b"]): row for row in rows}
    own = {row["scorer"]: row for row in found.reliabilities.to_dict("records")}
    table = _table("", *names)
    for at, a in enumerate(names):
        line = [_correlation(cells[a, b], kind) for b in names[at + 1 :]]
        _add(table, a, *[""] * at, _reliability(own[a]), *line)
    return table


def _correlation(row: Mapping[Any, Any], kind: str) -> str:
    few = "*" if row["few"] else ""
    return f"{_with_span(row, kind, 2)} n={row['n']}{few}"


def _reliability(row: Mapping[Any, Any]) -> str:
    return f"({_with_span(row, 'reliability', 2, ('low', 'high'))})"


def _correlation_notes(found: RunComparison) -> str:
    from harness.analysis.correlations import FEW
    from harness.report.text import metric_name

    figures = ", ".join(
        f"{metric_name(row['metric'])} of {row['scorer']}" for row in found.reliabilities.to_dict("records")
    )
    lines = [
        f"n counts rows of one latent and explainer; figures: {figures}",
        "in brackets on the diagonal: split-half reliability, which bounds what a scorer can correlate with others",
    ]
    if any(found.correlations["few"].tolist()):
        lines.append(f"* fewer than {FEW} latents")
    return "\n".join(lines)


def _costs(found: RunComparison) -> Table:
    several = len(found.runs) > 1
    numbers = (">examples", ">calls", ">tokens in", ">of it cached", ">tokens out", ">dollars")
    table = _table(*(["run"] if several else []), "who", "model", *numbers)
    for row in found.costs.to_dict("records"):
        who = f"explainer {row['name']}" if row["stage"] == "explain" else f"scorer {row['name']}"
        if row["stage"] == "score" and row["rung"] != found.rung:
            who += f" ({row['rung']})"
        model = "" if _missing(row["model"]) else row["model"]
        cells = [*([row["run"]] if several else []), who, model]
        _add(table, *cells, *(_number(row[key]) for key in _TOKENS), _dollars(row))
    return table


_TOKENS = ("examples", "calls", "prompt", "cached", "reply")


def _dollars(row: Mapping[Any, Any]) -> str:
    if not row["calls"]:
        return "no model"
    if _missing(row["dollars"]):
        return "no price"
    return f"{row['dollars']:.6f}" if row["dollars"] else "free"


def _number(value: Any) -> str:
    from harness.report.text import count

    if _missing(value):
        return ""
    return count(value) if value >= 100 or value == int(value) else f"{value:.1f}"


def _with_span(row: Mapping[Any, Any], name: str, digits: int = 3, ends: tuple[str, str] | None = None) -> str:
    from harness.report.text import figure, span

    low, high = (row[key] for key in ends or (f"{name}_low", f"{name}_high"))
    return f"{figure(row[name], digits)} {span(None if _missing(low) else (low, high), digits)}".strip()


def _missing(value: Any) -> bool:
    return value is None or value != value  # NaN alone is not itself


def _table(*columns: str) -> Table:
    """A table with these columns; those that begin with > are to the right."""
    table = Table()
    for column in columns:
        side = "right" if column.startswith(">") else "left"
        table.add_column(column.removeprefix(">"), justify=side, overflow="fold", no_wrap=column in _WHOLE)
    return table


def _add(table: Table, *cells: str) -> None:
    from harness.report.text import visible

    table.add_row(*(Text(visible(cell)) for cell in cells))
