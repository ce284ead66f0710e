"""Before a run starts: what hard rungs look up in a store, built once and kept beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from harness.clients.models import Models
from harness.examples.rungs import prepare
from harness.examples.semantic import build_index
from harness.runs.progress import Progress
from harness.store import CoderReader
from harness.task import Rung, Task
from harness.validation import naming

__all__ = ["build_indexes", "check_embedder"]


def check_embedder(task: Task, models: Models) -> None:
    """Whether the task's embedder, if a rung needs one, is one.

    Raises:
        TaskError: it is not.
    """
    if task.examples.scored.embedder is not None:
        with naming(f"{task.source}: examples.scored.embedder"):
            models.embedder(task.examples.scored.embedder)


async def build_indexes(
    task: Task,
    coders: Mapping[str, CoderReader],
    latents: Mapping[str, Sequence[int]],
    models: Models,
    progress: Progress,
    pooled: Sequence[Rung] = (),
) -> None:
    """Build what is missing; minutes for thousands of latents of a wide coder, or for twenty thousand embeddings.

    `pooled` are the rungs that explainers draw silent windows of.

    Raises:
        ClientError: a text cannot be embedded.
        UserError: the embedder cannot be loaded.
    """
    scored = task.examples.scored
    for name, indexes in latents.items():
        await anyio.to_thread.run_sync(prepare, coders[name], indexes, (*scored.rungs, *pooled))
    if "semantic" in scored.rungs and scored.embedder is not None:
        embed = models.embedder(scored.embedder).embed
        for store in {coders[name].store.id: coders[name].store for name in latents}.values():
            tell = _Telling(progress)
            await build_index(store, task.examples, task.drawing_seed, models.identity(scored.embedder), embed, tell)


class _Telling:
    """Notes how far the embedding of windows is, at each quarter."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told = 0

    def __call__(self, done: int, total: int) -> None:
        if 4 * done // total > self._told:
            self._told = 4 * done // total
            self._progress.note(f"embedded {done:,} of {total:,} windows for the rung semantic")
