"""Marks for fuzzing: which tokens of a passage are claimed to activate the latent."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from msgspec.structs import replace

from harness.examples.carrying import Look, Pattern, assign, carry
from harness.values import Example, Passage, ScoredSet, seed_of

__all__ = ["THRESHOLD", "active_marks", "mark"]

THRESHOLD: Final = 0.3


# every arm is scored on the same examples: as many are remembered as latents are usually at work
@lru_cache(maxsize=32)
def mark(examples: ScoredSet, threshold: float, seed: int) -> tuple[Passage, ...]:
    """Mark the tokens of each example, right ones where it activates and wrong ones where it does not.

    An activating example is marked where `activation >= threshold * window maximum` (paper section 5). Every other
    example gets the whole pattern of one activating example, each pattern used equally often: so how many marks there
    are, and how many in a row, tells nothing. Where it activates none the less (the rung `misplaced`), no token that
    activates is marked. Patterns go to the passages, and their runs to the places in them
    (`harness.examples.carrying`), where the marked tokens are most like those that were marked at first: whole words or
    pieces, of the same kind and as frequent, at about the same place. Otherwise a judge need not understand anything:
    latents fire on words rarer than most, and marks on commas would be wrong ones.

    Args:
        examples: the examples of a rung.
        threshold: a share of the window's maximum, 0 to 1.
        seed: of this latent and rung, such as `seed_of(run seed, coder, latent, "marks")`.

    Returns:
        One passage an example, in their order.
    """
    marks = [active_marks(example, threshold) if example.activating else () for example in examples.examples]
    donors = [place for place, example in enumerate(examples.examples) if example.activating]
    takers = [place for place, example in enumerate(examples.examples) if not example.activating]
    generator = np.random.Generator(np.random.PCG64(seed_of(seed, examples.rung)))
    if donors and takers:
        looks = [Look.of(example.passage) for example in examples.examples]
        targets = Look.stacked([looks[taker] for taker in takers])
        silent = np.stack([examples.examples[taker].activations == 0 for taker in takers])
        carried = [carry(Pattern(marks[donor], looks[donor]), targets, silent) for donor in donors]
        rounds = -(-len(takers) // len(donors))
        costs = np.stack([cost for _, cost in carried] * rounds)
        for giving, taking in zip(*assign(costs, generator), strict=True):
            marks[takers[taking]] = tuple(carried[giving % len(donors)][0][taking].tolist())
        for taking, taker in enumerate(takers):
            if not marks[taker]:
                # no pattern that is left fits between the tokens that activate: one that is given already may
                best = int(costs[: len(donors), taking].argmin())
                fits = np.isfinite(costs[best, taking])
                marks[taker] = tuple(carried[best][0][taking].tolist()) if fits else (int(silent[taking].argmax()),)
    return tuple(
        replace(example.passage, marks=places) for example, places in zip(examples.examples, marks, strict=True)
    )


def active_marks(example: Example, threshold: float) -> tuple[int, ...]:
    """The positions whose activation is at least that share of the window's maximum; none where it is silent."""
    peak = float(example.activations.max(initial=0.0))
    if peak <= 0:
        return ()
    return tuple(np.flatnonzero(example.activations >= threshold * peak).tolist())
