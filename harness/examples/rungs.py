"""Rungs: where windows on which a latent is silent come from."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.examples.windows import contained
from harness.task import Rung

__all__ = ["RUNGS", "count_silent", "random_silent", "silent_rows", "zero_rows"]

# the rungs that a store of each sampling has; the first is that of the headline figure unless a task asks for others
RUNGS: Final[dict[str, tuple[Rung, ...]]] = {"all": ("random",), "selected": ("zero-row", "same-row")}


def count_silent(pool: NDArray[np.int64], activating: NDArray[np.int64]) -> int:
    """How many windows of a pool a latent is silent on; both are ascending and distinct."""
    return len(pool) - int(contained(activating, pool).sum())


def random_silent(
    pool: NDArray[np.int64], activating: NDArray[np.int64], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """The rung `random`: distinct windows of the pool on which the latent is silent, uniformly, in random order.

    `pool` is the windows that may be drawn, all of them observed, and `activating` every window that the latent
    activates; both are ascending and distinct. Fewer than `count` come back where the pool has no more.
    """
    silent = count_silent(pool, activating)
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


def _silent(pool: NDArray[np.int64], activating: NDArray[np.int64]) -> NDArray[np.int64]:
    return pool[~contained(pool, activating)]
