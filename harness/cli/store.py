"""`harness store`: what is in a store, whether its files are sound, and what one latent does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from harness.store.summary import LatentSummary, StoreSummary, WindowSummary

__all__ = ["store"]

# rows of a histogram in the terminal, each of eight steps
_HEIGHT = 5
_STEPS = " ▁▂▃▄▅▆▇█"


def store(
    path: Annotated[Path, typer.Argument(help="A finished store.")],
    check: Annotated[bool, typer.Option("--check", help="Compare every file with its checksum.")] = False,
    latent: Annotated[
        str | None, typer.Option(metavar="[CODER/]N", help="Show one latent: how it fires, on what, and where.")
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="First add what fires at each token, where the store has only latents.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what is in a store: its text, its coders, their statistics; or one latent."""
    import json
    from dataclasses import asdict

    from harness.cli.show import console
    from harness.store import Store, add_rows
    from harness.store.summary import find_latent, summarize, summarize_latent

    opened = add_rows(path) if rows else Store.open(path)
    if check:
        opened.verify()
    if latent is not None:
        found = summarize_latent(*find_latent(opened, latent))
        told, lines = asdict(found), _latent(found)
    else:
        described = summarize(opened)
        told, lines = asdict(described), _store(described)
    checked = len(opened.manifest.files) if check else None
    if json_:
        typer.echo(json.dumps(told | ({"checked_files": checked} if checked is not None else {}), indent=1))
        return
    screen = console()
    for line in lines:
        screen.print(line)
    if checked is not None:
        screen.print(f"checked: {checked} files, all as they were written")


def _store(found: StoreSummary) -> list[Any]:
    from harness.report.text import count

    subject = found.model + (f" at {_short(found.model_revision)}" if found.model_revision else "")
    corpus = ", ".join(f"{key} {_short(value)}" for key, value in found.corpus.items() if value is not None)
    size = f"{_bytes(found.bytes)}, activations as {found.value_dtype}"
    nonzeros = sum(coder.nonzeros for coder in found.coders)
    if nonzeros:
        size += f", {found.bytes / nonzeros:.2f} bytes a nonzero"
    rows = {
        "store": f"{found.path} (version {found.version}, id {found.id[:12]})",
        "subject": subject,
        "corpus": corpus or "not said",
        "tokens": f"{count(found.tokens)} in {count(found.contexts)} contexts of {found.context}; "
        f"{count(found.read)} of them in {count(found.documents)} documents",
        "size": size,
        "counted": ", ".join(f"{key.replace('_', ' ')} {count(value)}" for key, value in found.counts.items()),
        "made with": ", ".join(f"{key} {value}" for key, value in found.versions.items()),
    }
    lines: list[Any] = [_pairs({key: value for key, value in rows.items() if value}), _coders(found)]
    if found.sampling == "selected":
        lines.append(_plain("Selected records, of each latent its own: they tell nothing about how often it fires."))
    return lines


def _coders(found: StoreSummary) -> Table:
    from rich.table import Table

    from harness.report.text import count, figure
    from harness.store.statistics import RARE, SINGLE

    shown = Table(
        caption=f"dead: never fires; rare: fires fewer than {RARE} times, dead ones among them; "
        f"single-token: {SINGLE:.0%} of its firings or more are on one token",
        caption_justify="left",
    )
    shown.add_column("coder", overflow="fold")
    shown.add_column("hookpoint", overflow="fold")
    for name in ("latents", "nonzeros", "L0", "dead", "rare", "single-token"):
        shown.add_column(name, justify="right", no_wrap=True)
    for coder in found.coders:
        shares = (_share(share) for share in (coder.dead, coder.rare, coder.single_token))
        cells = (count(coder.latents), count(coder.nonzeros), figure(coder.l0), *shares)
        shown.add_row(*map(_plain, (coder.name, coder.hookpoint, *cells)))
    return shown


def _latent(found: LatentSummary) -> list[Any]:
    from harness.report.text import count

    title = f"{found.coder}/{found.latent}"
    if not found.firings:
        return [_plain(f"{title} never fires: it was looked at on {count(found.read)} tokens")]
    rows = {
        "latent": title,
        "firings": f"{count(found.firings)} of {count(found.read)} tokens{_rate(found.rate)}, "
        f"in {count(found.contexts)} contexts",
        "activation": f"mean {found.mean:.4g}, standard deviation {found.deviation:.3g}, maximum {found.maximum:.4g}",
        "tokens": f"{count(found.tokens)} distinct",
    }
    return [
        _pairs(rows),
        *_histogram(found),
        _tokens(found),
        _windows(found),
    ]


def _histogram(found: LatentSummary) -> list[Text]:
    """Bars three columns wide, the tallest bin over the whole height; whatever is not empty shows."""
    from harness.report.text import count

    most = max(found.histogram)
    heights = [-(-bin_ * _HEIGHT * 8 // most) for bin_ in found.histogram]
    lines = []
    for row in reversed(range(_HEIGHT)):
        label = count(most) if row == _HEIGHT - 1 else ""
        bars = "".join(_STEPS[min(max(height - 8 * row, 0), 8)] * 2 + " " for height in heights)
        lines.append(f"{label:>11} │{bars}".rstrip())
    end = f"{found.maximum:.4g}"
    lines += [" " * 12 + "└" + "─" * (3 * len(heights)), " " * 13 + "0" + end.rjust(3 * len(heights) - 1)]
    return [_plain(line) for line in lines]


def _tokens(found: LatentSummary) -> Table:
    from rich.table import Table

    from harness.report.text import count

    shown = Table()
    shown.add_column("token")
    for name in ("firings", "share", "maximum"):
        shown.add_column(name, justify="right")
    for one in found.top_tokens:
        share = one.firings / found.firings
        text = f'"{one.text}"' if one.text else f"(id {one.id})"
        shown.add_row(*map(_plain, (text, count(one.firings), f"{share:.1%}", f"{one.maximum:.4g}")))
    return shown


def _windows(found: LatentSummary) -> Table:
    from rich.table import Table

    shown = Table.grid(padding=(0, 2))
    shown.add_column(justify="right", min_width=9)
    shown.add_column(overflow="fold")
    for one in found.top_windows:
        shown.add_row(f"{max(one.activations):.4g}", _window(one, found.maximum))
    return shown


def _window(found: WindowSummary, maximum: float) -> Text:
    """A window's text; where the latent fires in « », from half of its maximum on reversed."""
    from rich.text import Text

    from harness.report.text import visible

    line = Text()
    for piece, activation in zip(found.pieces, found.activations, strict=True):
        text = visible(piece)
        if activation:
            line.append(f"«{text}»", "bold reverse" if activation >= maximum / 2 else "bold")
        else:
            line.append(text)
    return line


def _pairs(rows: dict[str, str]) -> Table:
    from rich.table import Table

    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in rows.items():
        shown.add_row(name, _plain(value))
    return shown


def _plain(text: str) -> Text:
    from rich.text import Text

    from harness.report.text import visible

    return Text(visible(text))


def _rate(rate: float | None) -> str:
    if rate is None:
        return " of its records"
    return f" ({rate:.2%})" if rate >= 0.001 else f" (1 in {1 / rate:,.0f})"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _short(value: object) -> str:
    """A value, of a hash its first characters."""
    text = str(value)
    return text[:12] if len(text) >= 40 and set(text) <= set("0123456789abcdef") else text


def _bytes(size: int) -> str:
    power = min(3, (len(str(size)) - 1) // 3)
    return f"{size / 1000**power:.{0 if power == 0 else 1}f} {('bytes', 'kB', 'MB', 'GB')[power]}"
