"""`harness run`: does a task, shows how it goes on and what came out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.runs.parts import Crew

__all__ = ["run"]


def run(
    task: Annotated[str, typer.Argument(help="A task file, or a shipped task's name such as demo.")],
    out: Annotated[Path | None, typer.Option(help="The run directory; runs/<name of the task> if not given.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as explainer.mini.model=openai/gpt-5."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many latents of each coder.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Do failed units again.")] = False,
    report: Annotated[bool, typer.Option(help="Write the HTML report.")] = True,
    on: Annotated[
        str | None, typer.Option(metavar="ray[:ADDRESS]", help="Have workers do it, on Ray here or on a cluster.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="How many workers, with --on.")] = 2,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for batches that are out, instead of ending.")] = False,
) -> None:
    """Collect activations if needed, explain and score latents, print a table and write a report."""
    import asyncio
    from contextlib import nullcontext

    from harness.api import finished
    from harness.cli.memory import collect_rarely
    from harness.cli.show import Display, print_results
    from harness.runs.batches import PAUSE
    from harness.runs.running import Outcome, conduct, default_directory
    from harness.runs.stop import Stop, on_signals
    from harness.task import load_task

    loaded = load_task(task, set_ or [])
    directory = out or default_directory(loaded)
    stop = Stop()

    def crewed() -> AbstractContextManager[Crew | None]:
        if on is None:
            return nullcontext()
        from harness.scale.crew import ray_crew

        return ray_crew(workers, on)

    async def work(crew: Crew | None) -> Outcome:
        with on_signals(stop):
            return await conduct(
                loaded,
                directory,
                limit=limit,
                retry_failed=retry_failed,
                progress=display,
                stop=stop,
                wait=PAUSE if wait else None,
                crew=crew,
            )

    collect_rarely()
    with Display() as display, crewed() as crew:
        outcome = asyncio.run(work(crew))
    if outcome.interrupted and not outcome.statuses:
        typer.echo("harness: interrupted; run the task again to go on from here", err=True)
        raise typer.Exit(130)
    print_results(finished(outcome, report=report))
    if outcome.interrupted:
        raise typer.Exit(130)
