"""Draws a latent's examples: its chosen windows with their text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.examples.choosing import choose
from harness.examples.pool import Pool, with_text
from harness.examples.rungs import RUNGS
from harness.store import CoderReader
from harness.task import ExampleSettings
from harness.values import Example, Failure, Latent, ScoredSet

__all__ = ["LatentExamples", "draw"]


@dataclass(frozen=True, slots=True, eq=False)
class LatentExamples:
    """A latent's examples: its `Choice` with the text of each window; `pool` has more of the shown documents."""

    latent: Latent
    shown: tuple[Example, ...]
    select: tuple[Example, ...]
    scored: tuple[ScoredSet, ...]
    maximum: float
    base_rate: float | None
    counts: Mapping[str, int]
    pool: Pool = field(default_factory=Pool)


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
        with_text(store, choice.shown, window, None),
        with_text(store, choice.select, window, RUNGS[store.manifest.frame.sampling][0]),
        tuple(
            ScoredSet(rung, with_text(store, chosen, window, rung), latent, choice.maximum)
            for rung, chosen in choice.scored.items()
        ),
        choice.maximum,
        choice.base_rate,
        choice.counts,
        Pool.of(coder, index, settings, seed),
    )
