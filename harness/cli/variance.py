"""`harness variance`: examples, explanations and verdicts drawn again, and how much of the scores hangs on which."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from harness.analysis.variance import Variance

__all__ = ["jsonable", "print_variance", "sentences", "variance"]


def variance(
    task: Annotated[str, typer.Argument(help="A task file, or a shipped task's name such as demo.")],
    draws: Annotated[int, typer.Option(min=1, help="Draws of examples.")] = 4,
    explainer_samples: Annotated[int, typer.Option(min=1, help="Explanations of the same examples.")] = 4,
    scorer_samples: Annotated[int, typer.Option(min=1, help="Verdicts on the same explanation.")] = 4,
    corpus: Annotated[
        list[str] | None, typer.Option(help="A further file or folder for the subject to read; may be given again.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The directory; runs/<name of the task>-variance if not given.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many latents of each coder.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Do failed units again.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what it would ask and cost.")] = False,
    scorer: Annotated[str | None, typer.Option(help="The scorer to tell of; the primary one if not given.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many latents the top has.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Split the variance of scores by what was drawn: latents, examples, explanations, verdicts, corpora.

    Every arm is explained and scored with everything crossed, in one directory; running it again goes on.
    """
    from harness.runs.variance import Design, default_directory, plan_variance
    from harness.task import load_task

    loaded = load_task(task, set_ or [])
    design = Design(draws, explainer_samples, scorer_samples, tuple(corpus or ()))
    directory = out or default_directory(loaded)
    if plan:
        import asyncio

        from harness.cli.plan import print_plan
        from harness.cli.show import Display

        with Display() as display:
            made = asyncio.run(plan_variance(loaded, design, directory, limit=limit, progress=display))
        print_plan(made)
        return
    _run(loaded, design, directory, limit=limit, retry_failed=retry_failed)
    from harness.analysis.variance import variance as read

    found = read(directory, scorer, top=top)
    if as_json:
        typer.echo(json.dumps(jsonable(found), indent=2, allow_nan=False))
        return
    from harness.cli.show import console

    print_variance(console(), found)


def _run(task: Any, design: Any, directory: Path, *, limit: int | None, retry_failed: bool) -> None:
    """Do what is not done yet.

    Raises:
        RunStopped: something stopped it; what was paid for is kept.
    """
    import asyncio

    from harness.api import drawn
    from harness.cli.memory import collect_rarely
    from harness.cli.show import Display
    from harness.runs.running import Outcome
    from harness.runs.stop import Stop, on_signals
    from harness.runs.variance import vary

    stop = Stop()

    async def work() -> Outcome:
        with on_signals(stop):
            return await vary(
                task, design, directory, limit=limit, retry_failed=retry_failed, progress=display, stop=stop
            )

    collect_rarely()
    with Display() as display:
        outcome = asyncio.run(work())
    if outcome.interrupted and outcome.stopped_by is None:
        typer.echo("harness: interrupted; run it again to go on from here", err=True)
        raise typer.Exit(130)
    drawn(outcome)


def jsonable(found: Variance) -> dict[str, Any]:
    """The tables as JSON's own values, null where something is missing."""
    from dataclasses import asdict

    from harness.analysis.variance import TABLES

    plain = {name: getattr(found, name) for name in ("scorer", "metric", "latents", "left_out")}
    tables = {
        name: json.loads(str(getattr(found, name).to_json(orient="records", double_precision=15))) for name in TABLES
    }
    return {**plain, "design": asdict(found.design), **tables}


def print_variance(screen: Console, found: Variance) -> None:
    """Print the tables of a variance, and what follows from them in words."""
    from rich.text import Text

    from harness.report.text import metric_name, visible

    what = f"{metric_name(found.metric)} of {found.scorer}"
    left = f", {found.left_out} left out" if found.left_out else ""
    title = f"{what}: {found.latents} latents{left}, {_drawn(found)}; standard deviations with 95 % intervals"
    screen.print(Text(visible(title), "bold"))
    for name, words in (
        ("score", "one latent's score"),
        ("mean", f"an arm's mean over {found.latents} latents"),
        ("difference", f"the difference of two arms over {found.latents} latents"),
    ):
        table: pd.DataFrame = getattr(found, name)
        if len(table):
            screen.print(Text(words))
            screen.print(_sources(table.to_dict("records")))
    screen.print(
        Text(f"the ranking of latents again: Kendall's tau, and how much of the top {_top(found)} is the same")
    )
    screen.print(_ranking(found.stability.to_dict("records")))
    for line in sentences(found):
        screen.print(Text(visible(line)))


def sentences(found: Variance) -> list[str]:
    """What follows for whoever reads one run's intervals."""
    from harness.report.text import figure

    lines = []
    for table, words in ((found.mean, "mean"), (found.difference, "difference")):
        rows = table.to_dict("records")
        for who in dict.fromkeys(map(_whose, rows)):
            told = {row["source"]: row for row in rows if _whose(row) == who}
            seen, common = told["seen"], told.get("common")
            line = (
                f"{who}: an interval over latents tells of a standard error of {figure(seen['sd'], 4)} of the {words}"
            )
            if common is not None:
                line += f"; what one draw does to all latents alike would add {figure(common['sd'], 4)}"
                if common["high"] == common["high"]:  # NaN alone is not itself
                    line += f" (at most {figure(math.sqrt(max(0.0, common['high'])), 4)})"
            lines.append(line)
    if any(row["variance"] < 0 for row in found.components.to_dict("records")):
        lines.append("a variance estimated below 0 stands for one too small to be told from 0 here")
    return lines


def _whose(row: Mapping[Any, Any]) -> str:
    return str(row["arm"]) if "arm" in row else f"{row['a']} - {row['b']}"


def _drawn(found: Variance) -> str:
    design = found.design
    counts = [
        (design.draws, "draws of examples"),
        (design.explainer_samples, "explanations"),
        (design.scorer_samples, "verdicts"),
        (1 + len(design.corpora), "corpora"),
    ]
    return " x ".join(f"{count} {words}" for count, words in counts if count > 1 or words != "corpora")


def _top(found: Variance) -> int:
    return int(found.stability["top"].iloc[0]) if len(found.stability) else 0


def _sources(rows: Sequence[Mapping[Any, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from harness.report.text import visible

    shown = Table()
    shown.add_column("arm", overflow="fold")
    sources = list(dict.fromkeys(row["source"] for row in rows))
    for source in sources:
        shown.add_column(source, justify="right")
    for who in dict.fromkeys(map(_whose, rows)):
        told = {row["source"]: row for row in rows if _whose(row) == who}
        cells = [_deviation(told[source]) if source in told else "" for source in sources]
        shown.add_row(Text(visible(who)), *(Text(cell) for cell in cells))
    return shown


def _deviation(row: Mapping[Any, Any]) -> str:
    """A standard deviation with its interval and share; a variance below 0 as such."""
    from harness.analysis.variance import BESIDE
    from harness.report.text import figure

    below = f"variance {row['variance']:.1e}".replace("-", "−")
    text = below if row["variance"] < 0 else figure(row["sd"], 4)
    if row["low"] == row["low"]:  # NaN alone is not itself
        ends = [figure(max(0.0, row[end]) ** 0.5, 4) for end in ("low", "high")]
        text += f"\n[{ends[0]}, {ends[1]}]"
    if row["source"] not in BESIDE and row["share"] == row["share"]:
        text += f"\n{100 * row['share']:.0f} %"
    return text


def _ranking(rows: Sequence[Mapping[Any, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from harness.report.text import figure, span, visible

    shown = Table()
    for name in ("arm", "drawn again"):
        shown.add_column(name, overflow="fold")
    for name in ("tau", "top the same", "by chance"):
        shown.add_column(name, justify="right")
    for row in rows:
        ends = None if row["low"] != row["low"] else (row["low"], row["high"])
        tau = f"{figure(row['tau'], 2)} {span(ends, 2)}".strip()
        cells = (
            row["arm"],
            row["again"],
            tau,
            f"{100 * row['overlap']:.0f} %",
            f"{100 * row['overlap_by_chance']:.0f} %",
        )
        shown.add_row(*(Text(visible(str(cell))) for cell in cells))
    return shown
