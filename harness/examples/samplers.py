"""Samplers: the order in which activating windows are drawn, and drawing that passes over some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["SAMPLERS", "draw_from", "quantile_labels", "quantiles", "random", "stratified", "top"]

Orders = list[NDArray[np.int64]]


def quantile_labels(maxima: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The quantile of each window, 1 (weakest) to `count`: rank slices of equal size, ties by position.

    `maxima` is in the order of positions; the slice of rank r among n is `r * count // n + 1`.
    """
    order = np.argsort(maxima, kind="stable")
    labels = np.empty(len(maxima), dtype=np.int64)
    labels[order] = np.arange(len(maxima)) * count // max(len(maxima), 1) + 1
    return labels


def stratified(
    labels: NDArray[np.int64], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A random order in rounds: one item of every stratum, then the next of every stratum, and so on.

    Returns the order (indices into `labels`) and the round, from 0, of each item in that order. Items of one round
    are in random order.
    """
    keys = generator.random(len(labels))
    by_stratum = np.lexsort((keys, labels))
    sorted_labels = labels[by_stratum]
    starts = np.searchsorted(sorted_labels, sorted_labels)
    rounds = np.arange(len(labels)) - starts
    order = np.lexsort((keys[by_stratum], rounds))
    return by_stratum[order], rounds[order]


def random(_maxima: NDArray[np.float32], _labels: NDArray[np.int64], generator: np.random.Generator) -> Orders:
    """Uniform over all windows, without replacement."""
    return [generator.permutation(len(_maxima))]


def top(maxima: NDArray[np.float32], _labels: NDArray[np.int64], _generator: np.random.Generator) -> Orders:
    """The strongest windows first, ties by position."""
    return [np.argsort(-maxima, kind="stable")]


def quantiles(_maxima: NDArray[np.float32], labels: NDArray[np.int64], generator: np.random.Generator) -> Orders:
    """As many from each quantile, uniformly within one."""
    order = generator.permutation(len(labels))
    strata = [order[labels[order] == label] for label in range(1, int(labels.max(initial=0)) + 1)]
    # which quantiles give one more, where the number asked is no multiple, is left to chance
    return [strata[place] for place in generator.permutation(len(strata))]


SAMPLERS: Final[dict[str, Callable[[NDArray[np.float32], NDArray[np.int64], np.random.Generator], Orders]]] = {
    "random": random,
    "top": top,
    "quantiles": quantiles,
}


def draw_from(
    orders: Sequence[NDArray[np.int64]], count: int, unwanted: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
) -> tuple[NDArray[np.int64], int]:
    """Draw `count` items, as equally as possible from each order, passing over the unwanted ones.

    An unwanted item is replaced by the next of its own order. Returns the drawn items (order by order) and how
    many were passed over; fewer than `count` come back where an order ends.
    """
    wanted = [count // len(orders) + (place < count % len(orders)) for place in range(len(orders))] if orders else []
    kept: list[list[NDArray[np.int64]]] = [[] for _ in orders]
    reached, passed = [0] * len(orders), 0
    while True:
        parts = [order[at : at + need] for order, at, need in zip(orders, reached, wanted, strict=True)]
        lengths = [len(part) for part in parts]
        if not sum(lengths):
            break
        bad = unwanted(np.concatenate(parts))
        for place, (part, refused) in enumerate(zip(parts, np.split(bad, np.cumsum(lengths)[:-1]), strict=True)):
            good = part[~refused]
            kept[place].append(good)
            reached[place] += len(part)
            wanted[place] -= len(good)
        passed += int(bad.sum())
    chosen = [part for parts in kept for part in parts]
    return (np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)), passed
