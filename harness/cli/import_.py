"""`harness import`: brings in what other projects have collected, or how they explained it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["import_"]


def import_(
    source: Annotated[
        Path, typer.Argument(help="What to import: records or explanations (a file or a folder), or a delphi cache.")
    ],
    out: Annotated[Path, typer.Option(help="The store to write, or the list of explanations; nothing may be there.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="For caches: the model's tokenizer.json, or a folder that has it.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="For caches written without tokens: their ids, .npy or .safetensors.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="For caches that do not say of which model they are.")] = None,
    explanations: Annotated[
        bool, typer.Option("--explanations", help="Import explanations and their scores, not activations.")
    ] = False,
    explainer: Annotated[str | None, typer.Option(help="With --explanations: whose, where there are several.")] = None,
    coder: Annotated[
        list[str] | None,
        typer.Option(metavar="[SOURCE=]NAME", help="With --explanations: what the task calls the coder."),
    ] = None,
) -> None:
    """Make a store of activations that were collected elsewhere, so that a task can name it as its [store].

    With --explanations make a list of explanations, so that a task can name it in an [[explainer]] of kind "file".
    """
    from harness.errors import UserError

    if explanations:
        for flag, given in (("--tokenizer", tokenizer), ("--tokens", tokens), ("--model", model)):
            if given is not None:
                raise UserError(f"{flag} is for activations, and --explanations asks for explanations")
        _explanations(source, out, explainer, coder or [])
        return
    for flag, given in (("--explainer", explainer), ("--coder", coder)):
        if given:
            raise UserError(f"{flag} is for explanations: give --explanations with it")
    _activations(source, out, tokenizer, tokens, model)


def _activations(source: Path, out: Path, tokenizer: str | None, tokens: Path | None, model: str | None) -> None:
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


def _explanations(source: Path, out: Path, explainer: str | None, coder: list[str]) -> None:
    from harness.interop.explanations import import_explanations
    from harness.report.text import visible

    names = {}
    for given in coder:
        theirs, equals, ours = given.rpartition("=")
        names[theirs if equals else ""] = ours
    found = import_explanations(source, out, explainer=explainer, coders=names)
    for name, count in found.by_coder.items():
        typer.echo(visible(f"{name or 'any coder'}: {count:,} explanations"))
    for name, (mean, count) in found.means.items():
        typer.echo(visible(f"scored there by {name}: {mean:.3f} on average over {count:,}"))
    if found.passed_over:
        typer.echo(f"{found.passed_over:,} more of the same latents are passed over: the first of each is taken")
    typer.echo(str(out))
