"""Draws a latent's examples: its chosen windows with their text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.examples.choosing import Chosen, choose
from harness.examples.rungs import RUNGS
from harness.store import CoderReader, Store
from harness.task import ExampleSettings
from harness.values import Example, Failure, Latent, Passage, Place, ScoredSet

__all__ = ["LatentExamples", "draw"]


@dataclass(frozen=True, slots=True, eq=False)
class LatentExamples:
    """A latent's examples: its `Choice` with the text of each window."""

    latent: Latent
    shown: tuple[Example, ...]
    select: tuple[Example, ...]
    scored: tuple[ScoredSet, ...]
    maximum: float
    base_rate: float | None
    counts: Mapping[str, int]


def draw(
    coder: CoderReader, index: int, settings: ExampleSettings, seed: int, *, min_examples: int = 1
) -> LatentExamples | Failure:
    """Draw a latent's examples; arguments, failures and errors are those of `choose`."""
    choice = choose(coder, index, settings, seed, min_examples=min_examples)
    if isinstance(choice, Failure):
        return choice
    store, window, latent = coder.store, settings.window, Latent(coder.name, index)
    return LatentExamples(
        latent,
        _examples(store, choice.shown, window, None),
        _examples(store, choice.select, window, RUNGS[store.manifest.frame.sampling][0]),
        tuple(
            ScoredSet(rung, _examples(store, chosen, window, rung), latent, choice.maximum)
            for rung, chosen in choice.scored.items()
        ),
        choice.maximum,
        choice.base_rate,
        choice.counts,
    )


def _examples(store: Store, chosen: Chosen, window: int, rung: str | None) -> tuple[Example, ...]:
    """Examples with their text; the silent ones are of that rung."""
    contexts, starts = np.divmod(chosen.starts, store.context_length)
    # before the rows are taken: a view of a read-only array is read-only
    chosen.activations.setflags(write=False)
    columns = (
        store.window_pieces(chosen.starts, window),
        contexts.tolist(),
        starts.tolist(),
        chosen.activations,
        chosen.quantiles.tolist(),
        chosen.active.tolist(),
    )
    return tuple(
        Example(
            Passage(text, (), Place(store.id, context, start), store),
            activations,
            quantile or None,
            None if active else rung,
        )
        for text, context, start, activations, quantile, active in zip(*columns, strict=True)
    )
