"""What of a store a run works on: whether the task fits it, and which latents it has for the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import TaskError
from harness.examples.pool import rungs_of
from harness.examples.rungs import HARD, RUNGS
from harness.examples.samplers import BY_QUANTILE
from harness.runs.keys import latent_order
from harness.store import CoderReader, Store
from harness.task import Rung, ScoredSettings, Task

__all__ = ["check_pooled", "check_sampling", "choose", "eligible", "named", "reader_of"]


def named(task: Task, coder: str | None) -> str:
    """The name of the coder that was asked for, the task's first if None.

    Raises:
        TaskError: the task has no such coder.
    """
    known = [one.name for one in task.coder]
    if coder is not None and coder not in known:
        raise TaskError(f"--coder {coder}: no [[coder]] has that name; there are: {', '.join(known)}")
    return coder or known[0]


def reader_of(store: Store, coder: str, latent: int) -> CoderReader:
    """What the store has of a coder, which has to have that latent.

    Raises:
        TaskError: it has not.
    """
    reader = store.coder(coder)
    if latent >= reader.n_latents:
        raise TaskError(f"--latent {latent}: coder {coder} has latents 0 to {reader.n_latents - 1}")
    return reader


def check_sampling(task: Task, store: Store) -> None:
    """Whether what the task asks of examples can be had from the store.

    Raises:
        TaskError: the store's records were selected, and the task asks for what only all of the text has; or the other
            way round.
    """
    sampling, scored = store.manifest.frame.sampling, task.examples.scored
    had = RUNGS[sampling] + (HARD if sampling == "all" else ())
    what = "holds all of the text that was read" if sampling == "all" else "holds only records that were selected"
    for rung in scored.rungs:
        if rung not in had:
            listed = " and ".join(f'"{name}"' for name in had)
            raise TaskError(
                f'{task.source}: examples.scored.rungs: "{rung}" cannot be had of {store.path}, which {what}; '
                f"it has {listed}"
            )
    if sampling == "all":
        _check_decoders(task, store)
        return
    if task.examples.peak is not None:
        raise TaskError(f"{task.source}: examples.peak: {store.path} {what}, whose windows lie on a grid; leave it out")
    if task.examples.shown.sampler in BY_QUANTILE:
        raise TaskError(
            f'{task.source}: examples.shown.sampler: {store.path} {what}, which have no quantiles; use "random"'
        )
    if scored.quantiles not in (1, ScoredSettings().quantiles):
        raise TaskError(
            f"{task.source}: examples.scored.quantiles: {store.path} {what}, which have no quantiles; leave it out"
        )
    if task.latents.max_rate < 1:
        raise TaskError(
            f"{task.source}: latents.max_rate: {store.path} {what}, so how often a latent fires is not known; "
            "leave it out"
        )


def check_pooled(task: Task, coders: Sequence[CoderReader], rungs: Mapping[str, Sequence[Rung]]) -> None:
    """Whether the silent windows that explainers, by name, want more of can be had of the coders.

    Raises:
        TaskError: windows of a rung cannot.
    """
    for coder in coders:
        had = rungs_of(coder)
        for name, wanted in rungs.items():
            for rung in (rung for rung in wanted if rung not in had):
                listed = ", ".join(f'"{one}"' for one in had)
                raise TaskError(
                    f'{task.source}: explainer.{name}.rungs: coder {coder.name} has no windows of "{rung}" to show; '
                    f"there are {listed}"
                )


def _check_decoders(task: Task, store: Store) -> None:
    without = [coder.name for coder in task.coder if store.coder(coder.name).decoder is None]
    if without and "neighbour" in task.examples.scored.rungs:
        raise TaskError(
            f'{task.source}: examples.scored.rungs: "neighbour" goes by the directions of a decoder, and coder '
            f"{without[0]} has none; leave it out"
        )


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
        selected = coder.store.manifest.frame.sampling == "selected"
        fit = eligible(task, coder)
        if not fit.any():
            raise TaskError(
                f"{task.source}: latents: no latent of coder {coder.name} is eligible: none has at least "
                f"{task.latents.min_examples} activating windows (most: {int(counts.max(initial=0))}); "
                + ("lower latents.min_examples" if selected else "lower latents.min_examples or read more tokens")
            )
        chosen = order[fit[order]][: task.latents.sample].tolist()
    return chosen if limit is None else chosen[:limit]


def eligible(task: Task, coder: CoderReader) -> NDArray[np.bool_]:
    """Which of a coder's latents fire in enough windows and not in too many, `[latents]`."""
    counts = coder.windows(task.examples.window)
    most = task.latents.max_rate * coder.store.n_windows(task.examples.window)
    return (counts >= task.latents.min_examples) & (counts <= most)


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
