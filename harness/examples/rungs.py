"""Rungs: where windows on which a latent is silent come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.examples.related import cooccurring, find_neighbours, neighbours, sample_together
from harness.examples.token_places import token_places, top_tokens
from harness.examples.windows import contained
from harness.store import CoderReader
from harness.task import Rung

__all__ = [
    "HARD",
    "RUNGS",
    "candidates",
    "in_turns",
    "prepare",
    "random_silent",
    "silent_rows",
    "zero_rows",
]

# the rungs that a store of each sampling has; the first is that of the headline figure unless a task asks for others
RUNGS: Final[dict[str, tuple[Rung, ...]]] = {"all": ("random",), "selected": ("zero-row", "same-row")}
# Rungs of windows that are like activating ones, for stores of all contexts. They are drawn when they are asked for,
# after what is shown: asking for them changes nothing else.
HARD: Final[tuple[Rung, ...]] = ("same-token", "neighbour", "cooccurring", "semantic", "misplaced")


def random_silent(
    pool: NDArray[np.int64], activating: NDArray[np.int64], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """The rung `random`: distinct windows of the pool on which the latent is silent, uniformly, in random order.

    `pool` is the windows that may be drawn, all of them observed, and `activating` those of them that the latent
    activates; both are ascending and distinct. Fewer than `count` come back where the pool has no more.
    """
    silent = len(pool) - len(activating)
    if silent <= count:
        return generator.permutation(_silent(pool, activating))
    # among m windows drawn uniformly the silent ones are a uniform draw of the silent ones
    tries = int(count * len(pool) / silent * 1.2) + 16
    if tries <= len(pool) // 2:
        drawn = pool[generator.choice(len(pool), size=tries, replace=False)]
        found = drawn[~contained(drawn, activating)]
        if len(found) >= count:
            return found[:count]
    return generator.permutation(_silent(pool, activating))[:count]


def zero_rows(
    pool: NDArray[np.int64], activating: NDArray[np.int64], per_row: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """The rung `zero-row`: the windows of the pool whose row the latent activates nowhere, in random order.

    `pool` is the windows of the latent's own rows and `activating` every window that it activates; a row is `per_row`
    consecutive windows.
    """
    return generator.permutation(pool[~np.isin(pool // per_row, activating // per_row)])


def silent_rows(
    pool: NDArray[np.int64], activating: NDArray[np.int64], per_row: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """The rung `same-row`: the silent windows of rows that the latent activates elsewhere; otherwise as `zero_rows`."""
    return generator.permutation(_silent(pool[np.isin(pool // per_row, activating // per_row)], activating))


def prepare(coder: CoderReader, indexes: Sequence[int], rungs: Sequence[Rung]) -> None:
    """Build what the hard rungs of many latents look up; without it each is looked up when it is needed."""
    if "same-token" in rungs:
        token_places(coder.store)
    if "neighbour" in rungs:
        find_neighbours(coder, indexes)
    if "cooccurring" in rungs and not coder.has_rows:
        sample_together(coder)


def candidates(coder: CoderReader, index: int, rung: Rung) -> list[NDArray[np.int64]]:
    """Where a hard rung looks: groups of positions, ascending in each.

    `same-token`: those of each token that the latent fires on most. `neighbour` and `cooccurring`: those at which each
    of ten latents fires that are nearest by decoder, or fire on the same tokens most.
    """
    if rung == "same-token":
        places = token_places(coder.store)
        return [places.of(token) for token in top_tokens(coder, index)]
    related = neighbours(coder, index) if rung == "neighbour" else cooccurring(coder, index)
    return [coder.latent(other).positions for other in related.tolist()]


def in_turns(groups: Sequence[NDArray[np.int64]], generator: np.random.Generator | None = None) -> NDArray[np.int64]:
    """The distinct windows of all groups: one of each group, then the next of each.

    Each group is taken in random order, as it stands where there is no generator. A window of several groups stands
    where it comes first.
    """
    if not groups:
        return np.empty(0, dtype=np.int64)
    shuffled = list(groups) if generator is None else [generator.permutation(group) for group in groups]
    rounds = np.concatenate([np.arange(len(group)) for group in shuffled])
    every = np.concatenate(shuffled)[np.argsort(rounds, kind="stable")]
    return every[np.sort(np.unique(every, return_index=True)[1])]


def _silent(pool: NDArray[np.int64], activating: NDArray[np.int64]) -> NDArray[np.int64]:
    return pool[~contained(pool, activating)]
