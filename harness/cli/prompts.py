"""`harness prompts`: the prompt variants there are, and exactly what one would send of a latent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.runs.sending import Sent

__all__ = ["list_", "prompts", "show"]

prompts = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@prompts.callback()
def list_(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Option(help="A folder of your own, with a folder for each question, in place of those shipped."),
    ] = None,
) -> None:
    """List prompt variants with what is particular about each; those of a folder of your own are checked."""
    if context.invoked_subcommand is not None:
        return
    from harness.report.text import visible

    for question, variants in _listed(folder).items():
        typer.echo(f"{question}/")
        width = max(map(len, variants))
        for name, description in variants.items():
            typer.echo(f"  {visible(name):{width}}  {visible(description)}")


@prompts.command("show")
def show(
    prompt: Annotated[str, typer.Argument(help="A variant such as explain/cot, or the path of a .toml file.")],
    task: Annotated[str, typer.Argument(help="A task file, or a shipped task's name such as demo.")],
    latent: Annotated[int, typer.Option(min=0, help="The latent's index.")],
    coder: Annotated[str | None, typer.Option(help="The coder's name; the first one if not given.")] = None,
    question: Annotated[
        str | None, typer.Option(help="The question, where the file's folder is not called after it.")
    ] = None,
    explanation: Annotated[
        str | None, typer.Option(help="What a judge is told; if not given, what the lexical baseline finds.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="How many requests to show, where there are several.")] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")] = None,
) -> None:
    """Print exactly what would be sent of one latent, with its count of tokens; no model is asked."""
    import asyncio

    from harness.cli.show import Display
    from harness.runs.sending import find_variant, sent
    from harness.task import load_task

    variant = find_variant(prompt, question)
    loaded = load_task(task, set_ or [])
    with Display() as display:
        found = asyncio.run(sent(loaded, variant, latent, coder, display, explanation))
    _print(found, requests)


def _listed(folder: Path | None) -> dict[str, dict[str, str]]:
    """Descriptions by question and name; every file is read and checked."""
    from harness import resources
    from harness.errors import PromptError
    from harness.questions.prompts import QUESTIONS, load_variant
    from harness.questions.query import load_query

    root = resources.folder("prompts") if folder is None else folder
    found: dict[str, dict[str, str]] = {}
    for question in (*QUESTIONS, "embedding"):
        for path in sorted((root / question).glob("*.toml")):
            load = load_query if question == "embedding" else lambda name, asked=question: load_variant(asked, name)
            found.setdefault(question, {})[path.stem] = load(str(path.resolve())).description
    if not found:
        raise PromptError(f"{root}: there is no prompt in it; a prompt's place is {root}/explain/NAME.toml")
    return found


def _print(found: Sent, most: int) -> None:
    from rich.text import Text

    from harness.cli.show import console
    from harness.report.text import visible

    screen = console()
    variant = found.variant
    for request, tokens in list(zip(found.requests, found.tokens, strict=True))[:most]:
        for message in request.messages:
            screen.print(Text(f"[{message.role}]", "cyan"))
            screen.print(Text(visible(message.content, breaks=True) + "\n"), soft_wrap=True)
        if request.continuation is not None:
            screen.print(Text("[text whose probability is asked for]", "cyan"))
            screen.print(Text(visible(request.continuation, breaks=True) + "\n"), soft_wrap=True)
        heat = (
            "the provider's own temperature" if request.temperature is None else f"temperature {request.temperature:g}"
        )
        characters = sum(len(message.content) for message in request.messages) + len(request.continuation or "")
        counted = (
            f"{tokens:,} tokens by the model's own tokenizer"
            if tokens is not None
            else f"about {-(-characters // 4):,} tokens ({characters:,} characters, four to a token: no tokenizer of "
            f"{found.model} is at hand)"
        )
        screen.print(
            Text(
                f"{variant.question}/{variant.name} to {found.model}: {counted}; {heat}, at most "
                f"{request.max_tokens:,} tokens of reply",
                "bold",
            )
        )
    if len(found.requests) > most:
        screen.print(Text(f"and {len(found.requests) - most} more requests of this latent", "dim"))
