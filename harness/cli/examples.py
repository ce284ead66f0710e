"""`harness examples`: the windows of one latent that an explainer would be shown and a scorer asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table
    from rich.text import Text

    from harness.examples.draw import LatentExamples
    from harness.runs.looking import Look
    from harness.values import Example, Passage

__all__ = ["examples"]

_SPLITS = ("shown", "select", "scored")
_SHORT = "scored_short_in_quantile_"
# of a quarter, a half, three quarters of the latent's largest activation, and more
_SHADES = ("", "on grey23", "on orange4", "on dark_orange3", "bold black on orange1")


def examples(
    place: Annotated[
        str, typer.Argument(metavar="STORE", help="A finished store, or a task: then the store that fits it.")
    ],
    latent: Annotated[
        list[str], typer.Argument(metavar="[CODER] LATENT", help="The latent: its coder and its number.")
    ],
    task: Annotated[str | None, typer.Option(help="Draw by this task's example settings and seed.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as examples.shown.sampler=top."),
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this part: shown, select or scored.")] = None,
    rung: Annotated[
        list[str] | None, typer.Option(help="Only this rung, asked for or not, such as same-token.")
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="How many windows to show of each kind.")] = 10,
    window: Annotated[int | None, typer.Option(min=2, help="Tokens of a window.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print all windows as JSON.")] = False,
) -> None:
    """Show the windows of one latent that an explainer would be shown and a scorer asked about; no model is asked."""
    from harness.errors import UserError
    from harness.runs.looking import look

    splits = split or list(_SPLITS)
    for name in splits:
        if name not in _SPLITS:
            raise UserError(f"--split {name}: the parts are {', '.join(_SPLITS)}")
    if len(latent) > 2:
        raise UserError(f"{' '.join(latent)}: give a coder and the number of a latent, such as {latent[0]} 3")
    found = look(place, "/".join(latent), task=task, overrides=set_ or [], rungs=rung or [], window=window)
    if json_:
        _print_json(found, splits, rung)
        return
    _print(found, splits, rung, count)


def _print_json(found: Look, splits: Sequence[str], rungs: Sequence[str] | None) -> None:
    import json

    from harness.values import Failure

    head: dict[str, Any] = {
        "store": found.store.id,
        "coder": found.coder,
        "latent": found.latent,
        "seed": found.seed,
        "settings": found.settings.model_dump(mode="json"),
    }
    if isinstance(found.examples, Failure):
        head |= {"failure": found.examples.message}
    else:
        windows = [
            row
            for row in found.rows()
            if row["split"] in splits and (row["rung"] is None or not rungs or row["rung"] in rungs)
        ]
        made = found.examples
        head |= {
            "maximum": made.maximum,
            "base_rate": made.base_rate,
            "counts": dict(made.counts),
            "windows": windows,
        }
    typer.echo(json.dumps(head, indent=1))


def _print(found: Look, splits: Sequence[str], rungs: Sequence[str] | None, count: int) -> None:
    from rich.rule import Rule
    from rich.text import Text

    from harness.cli.show import console
    from harness.report.text import visible
    from harness.values import Failure

    screen, made = console(), found.examples
    screen.print(Rule(Text(visible(f"{found.coder}/{found.latent}"))))
    if isinstance(made, Failure):
        screen.print(Text(visible(made.message)))
        return
    for line in (*_head(found, made), *_unscored(made, splits, count)):
        screen.print(line)
    for scored in made.scored if "scored" in splits else ():
        if not rungs or scored.rung in rungs:
            for line in _rung(scored.rung, scored.examples, found.marked(scored), made.maximum, count):
                screen.print(line)
    if "scored" in splits:
        for rung in found.settings.scored.rungs:
            if rung not in {scored.rung for scored in made.scored} and (not rungs or rung in rungs):
                screen.print(Text(_missing(rung, made)))


def _head(found: Look, made: LatentExamples) -> Iterator[Any]:
    """What was counted, and how to read what follows."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(justify="right")
    grid.add_row("largest activation", f"{made.maximum:.4g}")
    if made.base_rate is not None:
        grid.add_row("share of windows that it activates", f"{made.base_rate:.3%}")
    short = {name.removeprefix(_SHORT): number for name, number in made.counts.items() if name.startswith(_SHORT)}
    for name, number in made.counts.items():
        if not name.startswith(_SHORT):
            grid.add_row(name.replace("_", " "), f"{number:,}")
    yield grid
    if short:
        missing = ", ".join(f"{number} of decile {decile}" for decile, number in short.items())
        yield Text(f"fewer to score than asked: {missing} are missing", "yellow")
    yield Text(
        f"windows of {found.settings.window} tokens, seed {found.seed}: decile, largest activation, place, text; "
        "tokens that activate the latent in « », the stronger the brighter; in scored windows instead << >> around "
        "what fuzzing marks",
        "dim",
    )


def _unscored(made: LatentExamples, splits: Sequence[str], count: int) -> Iterator[Any]:
    for split, windows in (("shown", made.shown), ("select", made.select)):
        if split in splits:
            yield from _kinds(split, [(one, one.passage) for one in windows], made.maximum, count, marks=False)


def _rung(
    rung: str, windows: Sequence[Example], passages: Sequence[Passage], maximum: float, count: int
) -> Iterator[Any]:
    both = list(zip(windows, passages, strict=True))
    yield from _kinds(f"scored, rung {rung}", both, maximum, count, marks=True)


def _kinds(
    title: str, windows: Sequence[tuple[Example, Passage]], maximum: float, count: int, *, marks: bool
) -> Iterator[Any]:
    """The activating windows, then the silent ones; scored ones by decile, as the order of a draw tells nothing."""
    from rich.text import Text

    for active in (True, False):
        some = [(one, passage) for one, passage in windows if one.activating is active]
        if not some:
            continue
        if active and marks:
            some = _in_turns(some)
        kind = "activating" if active else "marked wrongly" if some[0][0].rung == "misplaced" else "silent"
        told = f"\n{title}, {kind}: {len(some)}"
        if marks and active:
            told += _by_decile(some)
        yield Text(told + (f"; the first {count}:" if count < len(some) else ""), "bold")
        yield _table(some[:count], maximum, marks=marks)


def _by_decile(windows: Sequence[tuple[Example, Passage]]) -> str:
    from collections import Counter

    found = Counter(one.quantile for one, _ in windows if one.quantile is not None)
    return f" (of each decile from 1: {' '.join(str(found[k]) for k in range(1, max(found) + 1))})" if found else ""


def _in_turns(windows: Sequence[tuple[Example, Passage]]) -> list[tuple[Example, Passage]]:
    """One window of each decile from the strongest down, then the next of each."""
    met: dict[int, int] = {}
    keys = []
    for one, _ in windows:
        decile = one.quantile or 0
        keys.append((met.setdefault(decile, 0), -decile))
        met[decile] += 1
    return [windows[place] for place in sorted(range(len(windows)), key=keys.__getitem__)]


def _table(windows: Sequence[tuple[Example, Passage]], maximum: float, *, marks: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for width in (4, 7, 9):
        grid.add_column(justify="right", min_width=width, no_wrap=True)
    grid.add_column(overflow="fold")
    for one, passage in windows:
        place = passage.place
        assert place is not None
        peak = float(one.activations.max(initial=0.0))
        cells = (
            "–" if one.quantile is None else str(one.quantile),
            f"{peak:.4g}" if peak else "–",
            f"{place.context}:{place.start}",
        )
        grid.add_row(*(Text(cell, "dim") for cell in cells), _text(one, passage, maximum, marks=marks))
    return grid


def _text(one: Example, passage: Passage, maximum: float, *, marks: bool) -> Text:
    """A window's text, shaded by activation, with signs around what is active or what fuzzing marks."""
    from rich.text import Text

    from harness.report.text import visible

    signs = ("<<", ">>") if marks else ("«", "»")
    inside = set(passage.marks) if marks else {k for k, value in enumerate(one.activations.tolist()) if value}
    line = Text()
    for k, (token, activation) in enumerate(zip(passage.tokens, one.activations.tolist(), strict=True)):
        if k in inside and k - 1 not in inside:
            line.append(signs[0], "cyan")
        share = activation / maximum if maximum > 0 else 0.0
        line.append(visible(token), _SHADES[0 if share <= 0 else min(4, 1 + int(4 * share))])
        if k in inside and k + 1 not in inside:
            line.append(signs[1], "cyan")
    return line


def _missing(rung: str, made: LatentExamples) -> str:
    """Why there is nothing to score on a rung."""
    number = made.counts.get(f"scored_{rung.replace('-', '_')}", 0)
    return f"\nscored, rung {rung}: too few windows, {number} activating and as many silent ones"
