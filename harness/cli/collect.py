"""`harness collect`: lets the subject read the corpus, and says what was collected."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.store import Store
    from harness.subject.figures import CoderFigures
    from harness.task import CoderSettings, Task

__all__ = ["collect"]


def collect(
    task: Annotated[str, typer.Argument(help="A task file, or a shipped task's name such as demo.")],
    out: Annotated[
        Path | None, typer.Option(help="The store's folder; where `harness run` looks for it if not given.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as subject.corpus.tokens=1000000."),
    ] = None,
) -> None:
    """Collect a task's activations into a store, or go on where an earlier call was cut off.

    Random latents, where `controls` has any, are collected into stores of their own.
    """
    from harness.errors import TaskError
    from harness.runs.collecting import store_folder
    from harness.runs.populations import random_coders
    from harness.task import load_task
    from harness.validation import naming

    loaded = load_task(task, set_ or [])
    if loaded.subject is None:
        raise TaskError(f"{loaded.source}: there is nothing to collect: this task has no [subject], only a store")
    with naming(loaded.source):
        store = _collect(loaded, loaded.coder, out or store_folder(loaded))
        for control in loaded.populations:
            coders = random_coders(loaded, store, control)
            _collect(loaded, coders, store_folder(loaded, coders))


def _collect(task: Task, coders: Sequence[CoderSettings], folder: Path) -> Store:
    """Collect a store, and say what is in it."""
    from harness.cli.show import Steps
    from harness.report.text import duration
    from harness.subject.collect import collect as collect_store
    from harness.subject.collect import read_figures

    assert task.subject is not None
    began = time.monotonic()
    try:
        with Steps("collecting", "tokens") as progress, _interruptible() as stopped:

            def tell(done: int, total: int) -> None:
                progress.tell(done, total)
                if stopped:
                    raise KeyboardInterrupt

            store = collect_store(task.subject, coders, folder, tell, task.base)
    except KeyboardInterrupt:
        typer.echo(f"harness: interrupted; collect again to go on from what is in {folder}", err=True)
        raise typer.Exit(130) from None
    if not progress.told:
        typer.echo(f"{folder} is finished already: nothing to do")
    else:
        typer.echo(f"{folder}: collected in {duration(time.monotonic() - began)}")
    for line in _lines(store, read_figures(store)):
        typer.echo(line)
    return store


@contextmanager
def _interruptible() -> Iterator[list[bool]]:
    """Inside, the first SIGINT or SIGTERM only fills the list: a batch ends and is written; a second one acts."""
    stopped: list[bool] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def note(number: int, _: FrameType | None) -> None:
        stopped.append(True)
        signal.signal(number, before[signal.Signals(number)])

    for number in signals:
        signal.signal(number, note)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lines(store: Store, figures: dict[str, CoderFigures]) -> Iterator[str]:
    """What is in a store, a line for all and one or two a coder."""
    from harness.store.statistics import RARE, SINGLE

    counts = store.manifest.counts
    documents = f", {counts['documents']:,} documents" if "documents" in counts else ""
    yield f"{store.n_tokens:,} tokens in {store.n_contexts:,} contexts of {store.context_length}{documents}"
    if counts.get("halved_contexts"):
        yield (
            f"{counts['halved_contexts']:,} contexts were read in batches of {counts['smallest_batch']} or more, for "
            "want of memory (halved.json says which)"
        )
    for name in store.coder_names:
        coder = store.coder(name)
        found = coder.statistics
        live = int((~found.dead).sum())
        where = f" at {coder.hookpoint}" if coder.hookpoint else ""
        yield f"{name}: {coder.n_latents:,} latents{where}" + (f", {figures[name]}" if name in figures else "")
        yield from (f"  {note}" for note in (figures[name].notes if name in figures else ()))
        yield (
            f"  L0 {found.l0:.2f}; {found.dead.mean():.1%} dead, {found.rare().mean():.1%} with fewer than {RARE} "
            f"firings; of those that fire {found.single_token().sum() / max(1, live):.1%} on one token "
            f"(at least {SINGLE:.0%} of the firings)"
        )
