"""What would be shown and scored of one latent, without asking any model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from harness.errors import StoreError
from harness.examples.draw import LatentExamples, draw
from harness.examples.marks import THRESHOLD, mark
from harness.examples.rungs import HARD, RUNGS
from harness.examples.table import rows, table
from harness.overrides import override
from harness.runs.collecting import store_folder
from harness.runs.keys import score_seed
from harness.store import Store
from harness.store.summary import find_latent
from harness.task import ExampleSettings, Frozen, ScoredSettings, Task, load_task
from harness.validation import naming, validated
from harness.values import Failure, Latent, Passage, ScoredSet

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Look", "look"]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A latent's examples, or why there are none, with the settings that they were drawn by."""

    store: Store
    settings: ExampleSettings
    seed: int
    coder: str
    latent: int
    examples: LatentExamples | Failure

    def marked(self, scored: ScoredSet) -> tuple[Passage, ...]:
        """The passages of a rung as fuzzing shows them, marked from the threshold's default on."""
        return mark(scored, THRESHOLD, score_seed(self.seed, Latent(self.coder, self.latent), scored.rung))

    def rows(self) -> Iterator[dict[str, Any]]:
        """A JSON-able mapping for each window; see `harness.examples.table.rows`."""
        if isinstance(self.examples, LatentExamples):
            yield from rows(self.examples, self.store, self.marked)

    def table(self) -> pd.DataFrame:
        """The windows as a table with the columns `harness.examples.table.COLUMNS`.

        Raises:
            StoreError: there are none.
        """
        if isinstance(self.examples, Failure):
            raise StoreError(f"{self.coder}/{self.latent}: {self.examples.message}")
        return table(self.examples, self.store, self.marked)


class _Bare(Frozen):
    """The keys of a task file that decide which windows are drawn."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    examples: ExampleSettings = ExampleSettings()


def look(
    place: str | Path,
    latent: str,
    *,
    task: str | Path | None = None,
    overrides: Sequence[str] = (),
    rungs: Sequence[str] = (),
    window: int | None = None,
) -> Look:
    """Draw a latent's examples as a run would.

    Args:
        place: a finished store's folder, or a task, of which the store that fits it is taken.
        latent: `CODER/N`, or `N` where there is one coder.
        task: whose example settings and seed to take; if None those of `place` where it is a task, else the defaults.
        overrides: keys to change, such as `examples.shown.sampler=top`.
        rungs: which rungs to ask; if none are given those of the task, else those that every such store has.
        window: positions of a window, in place of `examples.window`.

    Raises:
        TaskError: a task, a key, a rung or the window is wrong.
        StoreError: there is no such store or latent, or it is not collected yet.
    """
    source = place if task is None and not _is_store(Path(place)) else task
    found = None if source is None else load_task(source, overrides)
    store = Store.open(place) if _is_store(Path(place)) else _store_of(found if task is None else load_task(place))
    coder, index = find_latent(store, latent)
    plain, seed, least = _settings(found, store, overrides)
    settings = _changed(plain, store, rungs, window)
    return Look(store, settings, seed, coder.name, index, draw(coder, index, settings, seed, min_examples=least))


def _is_store(path: Path) -> bool:
    # a folder is never a task, so that a mistaken one is told as a store that it is not
    return path.is_dir()


def _store_of(task: Task | None) -> Store:
    """The finished store of a task."""
    assert task is not None
    if task.store is not None:
        with naming(f"{task.source}: store.path"):
            return Store.open(task.base / task.store.path)
    with naming(task.source):
        folder = store_folder(task)
    if not (folder / "manifest.json").is_file():
        raise StoreError(
            f"{task.source}: there are no activations yet: collect them with harness collect {task.source}"
        )
    return Store.open(folder)


def _settings(task: Task | None, store: Store, overrides: Sequence[str]) -> tuple[ExampleSettings, int, int]:
    """Example settings, seed and the fewest activating windows."""
    if task is not None:
        return task.examples, task.drawing_seed, task.latents.min_examples
    data: dict[str, Any] = {"examples": {"scored": {"rungs": list(RUNGS[store.manifest.frame.sampling])}}}
    for given in overrides:
        override(data, given)
    bare = validated(_Bare, data, "--set")
    return bare.examples, bare.examples.drawing_seed(bare.seed), 1


def _changed(settings: ExampleSettings, store: Store, rungs: Sequence[str], window: int | None) -> ExampleSettings:
    """The settings with other rungs or another window; `random` is always asked where there is all of the text."""
    sampling, scored = store.manifest.frame.sampling, settings.scored
    had = RUNGS[sampling] + (HARD if sampling == "all" else ())
    for rung in rungs or scored.rungs:
        if rung not in had:
            raise StoreError(f'{store.path} has no rung "{rung}"; it has: {", ".join(had)}')
    if rungs:
        first = [rung for rung in RUNGS["all"] if sampling == "all"]
        scored = validated(
            ScoredSettings, scored.model_dump() | {"rungs": list(dict.fromkeys([*first, *rungs]))}, "--rung"
        )
    changed = {"scored": scored.model_dump(), **({} if window is None else {"window": window})}
    return validated(ExampleSettings, settings.model_dump() | changed, "--window")
