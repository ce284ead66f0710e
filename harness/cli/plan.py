"""`harness plan`: what a run would ask and cost, before it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from harness.runs.forecast import Forecast, Line, Range

__all__ = ["plan", "print_plan"]


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
    print_plan(made)


def print_plan(made: Forecast) -> None:
    """Print a forecast: a line an arm, then so far, to come and in the end."""
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
    paid = "dollars unknown" if done.dollars is None else f"{_money(done.dollars)} dollars"
    screen.print(Text(f"so far:     {_short(done.calls)} calls, {_short(done.tokens)} tokens, {paid}"))
    screen.print(Text(f"to come:    {_sentence(made.total.calls, made.total.tokens, made.total.dollars)}"))
    screen.print(Text(f"in the end: {_sentence(*made.total.ending)}"))
    for offer in made.offers:
        live, batch = (f"{_span(price, _money)} dollars" for price in (offer.live, offer.by_batch))
        words = f"{batch} by batch, and {live} live" if offer.batch else f"{live} live, and {batch} by batch"
        screen.print(Text(visible(f"to come of {offer.model}: {words}")))
    for note in made.notes:
        screen.print(Text(visible(note)))


def _table(made: Forecast) -> Table:
    from rich.table import Table
    from rich.text import Text

    from harness.report.text import count, visible

    shown = Table(caption="done: calls so far; all else is to come, with 90 % intervals", caption_justify="left")
    for name in ("stage", "arm", "model"):
        shown.add_column(name, overflow="fold")
    for name in ("done", "calls", "tokens", "dollars"):
        shown.add_column(name, justify="right")
    for line in made.lines:
        words = line.stage, line.arm, line.model, "–" if line.free else count(line.done.calls)
        shown.add_row(*(Text(visible(word)) for word in words), *(Text(cell) for cell in _cells(line)))
    return shown


def _cells(line: Line) -> list[str]:
    """Calls, tokens and dollars, each with its interval below."""
    if line.free:
        return [_span(line.calls, _short, "\n"), "free", "free"]
    dollars = "unknown" if line.dollars is None else _span(line.dollars, _money, "\n")
    return [_span(line.calls, _short, "\n"), _span(line.tokens, _short, "\n"), dollars]


def _sentence(calls: Range, tokens: Range, dollars: Range | None) -> str:
    paid = "dollars unknown" if dollars is None else f"{_span(dollars, _money)} dollars"
    return f"{_span(calls, _short)} calls, {_span(tokens, _short)} tokens, {paid}"


def _span(found: Range, shown: Callable[[float], str], between: str = " ") -> str:
    """An expected value with its interval, or alone where it is sure."""
    exact, low, high = shown(found.expected), shown(found.low), shown(found.high)
    return exact if low == exact == high else f"{exact}{between}[{low}, {high}]"


def _short(number: float) -> str:
    """A count to three digits, a small one in full."""
    from harness.report.text import count

    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 10 * unit or (number >= unit and unit > 1e3):
            scaled = number / unit
            return f"{scaled:.{max(0, 2 - int(scaled >= 10) - int(scaled >= 100))}f}{letter}"
    return count(number)


def _money(dollars: float) -> str:
    # of a sum below a dollar hundredths of a cent, too
    return f"{dollars:.2f}" if dollars >= 1 else f"{dollars:.4f}"
