"""`harness import`: brings in what other projects have collected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["import_"]


def import_(
    source: Annotated[
        Path, typer.Argument(help="What to import: feature records (a file or a folder of them), or a delphi cache.")
    ],
    out: Annotated[Path, typer.Option(help="The store to write; nothing may be there.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="For caches: the model's tokenizer.json, or a folder that has it.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="For caches written without tokens: their ids, .npy or .safetensors.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="For caches that do not say of which model they are.")] = None,
) -> None:
    """Make a store of activations that were collected elsewhere, so that a task can name it as its [store]."""
    from harness.cli.show import Steps
    from harness.interop.activations import import_activations

    with Steps("importing") as progress:
        store = import_activations(source, out, tokenizer=tokenizer, tokens=tokens, model=model, tell=progress.tell)
    frame, counts = store.manifest.frame, store.manifest.counts
    for name in store.coder_names:
        coder = store.coder(name)
        live = int((coder.firings > 0).sum())
        typer.echo(f"{name}: {coder.n_latents:,} latents, {live:,} of them fire, {int(coder.firings.sum()):,} times")
    what = "selected rows" if frame.sampling == "selected" else "rows"
    typer.echo(f"{out}: {store.n_contexts:,} {what} of {store.context_length} tokens, model {frame.model}")
    if told := ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count):
        typer.echo(told)
