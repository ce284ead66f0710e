"""`harness try`: one latent with its windows, exact prompts, raw replies and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["try_"]


def try_(
    task: Annotated[str, typer.Argument(help="A task file, or a shipped task's name such as demo.")],
    latent: Annotated[int, typer.Option(min=0, help="The latent's index.")],
    coder: Annotated[str | None, typer.Option(help="The coder's name; the first one if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where replies are kept; runs/<name>-try if not given.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")] = None,
    windows: Annotated[int, typer.Option(min=0, help="How many windows to show of each kind.")] = 8,
    prompts: Annotated[int, typer.Option(min=0, help="How many prompts to show of each stage.")] = 1,
) -> None:
    """Explain and score one latent and show everything: the loop in which prompts are worked on."""
    import asyncio

    from harness.cli.attempt import print_attempt
    from harness.cli.show import Display
    from harness.runs.trying import attempt
    from harness.task import load_task

    loaded = load_task(task, set_ or [])
    directory = out or Path("runs") / f"{loaded.name}-try"
    with Display() as display:
        examples, attempts = asyncio.run(attempt(loaded, latent, coder, directory, display))
    print_attempt(examples, attempts, windows=windows, prompts=prompts)
