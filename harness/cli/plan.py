"""`harness plan`: what a run would ask and cost, before it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from harness.runs.forecast import Forecast, Line, Range

__all__ = ["plan"]


def plan(
    task: Annotated[str, typer.Argument(help="A task file, or a shipped task's name such as demo.")],
    out: Annotated[Path | None, typer.Option(help="The run directory; runs/<name of the task> if not given.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many latents of each coder.")] = None,
    collect: Annotated[bool, typer.Option("--collect", help="Collect activations if there are none yet.")] = False,
) -> None:
    """Tell calls, tokens and dollars of a run, by stage and arm, with 90 % intervals; no model is asked."""
    from harness.cli.show import Display
    from harness.runs.plan import plan as make
    from harness.task import load_task

    loaded = load_task(task, set_ or [])
    with Display() as display:
        made = make(loaded, out, limit=limit, collect=collect, progress=display)
    _print(made)


def _print(made: Forecast) -> None:
    from rich.text import Text

    from harness.cli.show import console
    from harness.report.text import count, visible

    screen = console()
    known = f"{count(made.rehearsed)} of them rendered" if made.rehearsed < made.todo else "all of them rendered"
    todo = f"{count(made.todo)} of {count(made.latents)} latents to do" + (f", {known}" if made.todo else "")
    screen.print(Text(f"{made.task} in {visible(str(made.directory))}: {todo}", "bold"))
    if made.lines:
        screen.print(_table(made))
    done = made.total.done
    screen.print(Text(f"so far:     {_plain(done.calls, 'calls')}, {_plain(done.tokens, 'tokens')}, {_paid(made)}"))
    screen.print(Text(f"to come:    {_sentence(made.total.calls, made.total.tokens, made.total.dollars)}"))
    screen.print(Text(f"in the end: {_sentence(*made.total.ending)}"))
    for note in made.notes:
        screen.print(Text(visible(note)))


def _table(made: Forecast) -> Table:
    from rich.table import Table
    from rich.text import Text

    from harness.report.text import count, visible

    shown = Table(caption="to come, with 90 % intervals", caption_justify="left")
    for name in ("stage", "arm", "model"):
        shown.add_column(name, overflow="fold")
    for name in ("calls so far", "calls", "tokens", "dollars"):
        shown.add_column(name, justify="right")
    for line in made.lines:
        ranges = _cell(line.calls), "free" if line.free else _cell(line.tokens), _dollar_cell(line)
        cells = line.stage, line.arm, line.model, "–" if line.free else count(line.done.calls), *ranges
        shown.add_row(*(Text(visible(cell)) for cell in cells))
    return shown


def _cell(found: Range) -> str:
    from harness.report.text import count

    exact = count(found.expected)
    ends = count(found.low), count(found.high)
    return exact if ends == (exact, exact) else f"{exact} [{ends[0]}, {ends[1]}]"


def _dollar_cell(line: Line) -> str:
    if line.free:
        return "free"
    return "unknown" if line.dollars is None else _money(line.dollars)


def _money(found: Range) -> str:
    # cents of small sums, too
    digits = 2 if found.high >= 1 else 4
    exact = f"{found.expected:.{digits}f}"
    ends = f"{found.low:.{digits}f}", f"{found.high:.{digits}f}"
    return exact if ends == (exact, exact) else f"{exact} [{ends[0]}, {ends[1]}]"


def _plain(number: int, what: str) -> str:
    return f"{number:,} {what}"


def _paid(made: Forecast) -> str:
    dollars = made.total.done.dollars
    return "dollars unknown" if dollars is None else f"{dollars:.4f} dollars"


def _sentence(calls: Range, tokens: Range, dollars: Range | None) -> str:
    paid = "dollars unknown" if dollars is None else f"{_money(dollars)} dollars"
    return f"{_cell(calls)} calls, {_cell(tokens)} tokens, {paid}"
