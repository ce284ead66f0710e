"""`harness sentence`: a sentence's tokens with the latents active at each, their explanations and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["sentence"]


def sentence(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    text: Annotated[str, typer.Argument(help="The sentence.")],
    explainer: Annotated[str | None, typer.Option(help="Whose explanations; the first one's if not given.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many latents of each token to print.")] = 3,
    every: Annotated[bool, typer.Option("--every", help="Also latents that the run did not explain.")] = False,
    html: Annotated[Path | None, typer.Option(help="A page to write, with all latents of each token.")] = None,
) -> None:
    """Tell which latents are active at each token of a sentence, with what the run knows of them."""
    from rich.table import Table
    from rich.text import Text

    from harness.analysis.load import load
    from harness.analysis.sentence import sentence as read
    from harness.cli.show import console
    from harness.report.sentence import sentence_tokens, write_sentence
    from harness.report.text import visible

    loaded = load(run)
    table = read(loaded, text, explainer, every=every)
    shown = Table()
    for name in ("token", "latent", "explanation"):
        shown.add_column(name, overflow="fold", ratio=1 if name == "explanation" else None)
    for name in ("activation", "of the largest", *loaded.scorers):
        shown.add_column(name, justify="right")
    for token in sentence_tokens(table, loaded.scorers, top):
        for at, latent in enumerate(token.latents):
            cells = latent.name, latent.explanation, latent.activation, latent.share, *latent.scores
            shown.add_row(*(Text(visible(cell)) for cell in (token.text if at == 0 else "", *cells)))
        if not token.latents:
            shown.add_row(Text(visible(token.text)), *([Text("–")] * (4 + len(loaded.scorers))))
    console().print(shown)
    if html is not None:
        typer.echo(f"page: {write_sentence(table, loaded.scorers, loaded.name, html)}")
