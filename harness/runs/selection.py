"""Which latents a run works on: the first eligible ones in the seeded order, or those asked for."""

from __future__ import annotations

import numpy as np

from harness.errors import TaskError
from harness.runs.units import latent_order
from harness.store import CoderReader
from harness.task import Task

__all__ = ["choose"]


def choose(task: Task, coder: CoderReader, limit: int | None = None) -> list[int]:
    """Indexes of a coder's latents in the seeded order, at most `limit`.

    Raises:
        TaskError: an index is beyond the coder's width, or no latent is eligible.
    """
    order = latent_order(task.seed, coder.name, coder.n_latents)
    if task.latents.ids is not None:
        chosen = _named(task, coder, order.tolist())
    else:
        counts = coder.windows(task.examples.window)
        most = task.latents.max_rate * coder.store.n_windows(task.examples.window)
        eligible = (counts >= task.latents.min_examples) & (counts <= most)
        if not eligible.any():
            raise TaskError(
                f"{task.source}: latents: no latent of coder {coder.name} is eligible: none has at least "
                f"{task.latents.min_examples} activating windows (most: {int(counts.max(initial=0))}); "
                "lower latents.min_examples or read more tokens"
            )
        chosen = order[eligible[order]][: task.latents.sample].tolist()
    return chosen if limit is None else chosen[:limit]


def _named(task: Task, coder: CoderReader, order: list[int]) -> list[int]:
    assert task.latents.ids is not None
    beyond = [index for index in task.latents.ids if index >= coder.n_latents]
    if beyond:
        raise TaskError(
            f"{task.source}: latents.ids: {beyond[0]} is beyond coder {coder.name}, "
            f"whose latents go from 0 to {coder.n_latents - 1}"
        )
    wanted = np.zeros(coder.n_latents, bool)
    wanted[list(task.latents.ids)] = True
    return [index for index in order if wanted[index]]
