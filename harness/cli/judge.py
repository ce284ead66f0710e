"""`harness judge`: asks a model about planted items of known truth, and tells whether it may judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.judges.sheet import Sheet

__all__ = ["judge"]


def judge(
    model: Annotated[str, typer.Argument(help="The judge, such as openai/gpt-5-mini.")],
    prompt: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT", help="Prompt variant for both scorers, or detection=VARIANT, fuzzing=VARIANT."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Passages in one prompt, as the scorers' key.")] = 5,
    logprobs: Annotated[
        bool | None, typer.Option("--logprobs/--no-logprobs", help="As the scorers' key; left out, as they do.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Take the model's settings from this task.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the model, such as temperature=false."),
    ] = None,
    spend: Annotated[float | None, typer.Option(min=0, help="At most so many dollars in this directory.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the items; sheets of one seed compare.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The directory; runs/judge-<model> if not given.")] = None,
) -> None:
    """Ask a judge about 400 planted items twice, print its sheet and keep it where reports find it."""
    import asyncio

    from harness.cli.judging import print_sheets
    from harness.cli.show import Steps
    from harness.errors import RunStopped
    from harness.judges.qualify import Candidate, default_directory, qualify, variants_of
    from harness.overrides import override
    from harness.runs.stop import Stop, on_signals
    from harness.task import load_task

    settings = dict(load_task(task).model.get(model, {})) if task is not None else {}
    for given in set_ or []:
        override(settings, given)
    candidate = Candidate(model, settings, variants_of(prompt or []), batch, logprobs, seed, spend)
    directory = out or default_directory(model)
    stop = Stop()

    async def work() -> tuple[Sheet, ...]:
        with on_signals(stop):
            return await qualify(candidate, directory, tell=steps.tell, note=steps.note, stop=stop)

    with Steps("asking", "sets") as steps:
        try:
            sheets = asyncio.run(work())
        except RunStopped as error:
            if not stop.wished:
                raise
            typer.echo(f"harness: {error}", err=True)
            raise typer.Exit(130) from error
    print_sheets(sheets, directory)
