"""Samplers: the order in which activating windows are drawn, and drawing that passes over some.

| sampler | what is drawn |
|---|---|
| `random` | every window is as likely |
| `top` | the strongest windows |
| `quantiles` | as many from each quantile |
| `mix` | one in five by `top`, the rest by `quantiles` of what is left (paper section 3) |
| `importance` | without replacement, with a chance proportional to the window's maximum |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BY_QUANTILE",
    "SAMPLERS",
    "draw_from",
    "importance",
    "quantile_labels",
    "quantiles",
    "random",
    "sample",
    "stratified",
    "top",
]

Orders = list[NDArray[np.int64]]
Unwanted = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


def quantile_labels(maxima: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The quantile of each window, 1 (weakest) to `count`: rank slices of equal size, ties by position.

    `maxima` is in the order of positions; the slice of rank r among n is `r * count // n + 1`.
    """
    # rank r is in slice r * count // n, so slice k begins at the least r that is n * k / count or more
    edges = -(-np.arange(count + 1) * len(maxima) // count)
    labels = np.empty(len(maxima), dtype=np.int64)
    labels[_ascending(maxima)] = np.arange(1, count + 1).repeat(edges[1:] - edges[:-1])
    return labels


def stratified(
    labels: NDArray[np.int64], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A random order in rounds: one item of every stratum, then the next of every stratum, and so on.

    Returns the order (indices into `labels`) and the round, from 0, of each item in that order. Items of one round
    are in random order.
    """
    shuffled = generator.permutation(len(labels))
    own = labels[shuffled]
    by_stratum = _stable(own)
    counts = np.bincount(own)
    rounds = np.empty(len(own), dtype=np.int64)
    rounds[by_stratum] = np.arange(len(own)) - (counts.cumsum() - counts).repeat(counts)
    order = _stable(rounds)
    return shuffled[order], rounds[order]


def _ascending(maxima: NDArray[np.float32]) -> NDArray[np.int64]:
    """What `argsort(kind="stable")` gives of positive numbers, many times as fast where 16 bits hold them."""
    with np.errstate(over="ignore"):
        half = maxima.astype(np.float16)
    # the bits of positive numbers are in the numbers' order
    return np.argsort(half.view(np.uint16) if (half == maxima).all() else maxima, kind="stable")


def _stable(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """As `argsort(kind="stable")` of numbers from 0, which 16 bits nearly always hold: NumPy then sorts by digits."""
    small = int(numbers.max(initial=0)) < 1 << 16
    return (numbers.astype(np.uint16) if small else numbers).argsort(kind="stable")


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


def importance(maxima: NDArray[np.float32], _labels: NDArray[np.int64], generator: np.random.Generator) -> Orders:
    """One window after another, each with a chance proportional to its maximum among those not yet drawn.

    An exponential variable with the maximum as its rate is drawn for each window; they come in ascending order
    (Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir": their key `u ** (1 / w)` is
    `exp(-e / w)` with `e = -log u`).
    """
    return [np.argsort(generator.standard_exponential(len(maxima)) / maxima.astype(np.float64), kind="stable")]


_Sampler = Callable[[NDArray[np.float32], NDArray[np.int64], np.random.Generator], Orders]

# each sampler's parts, drawn one after the other, with their shares of what is asked
SAMPLERS: Final[dict[str, tuple[tuple[float, _Sampler], ...]]] = {
    "random": ((1.0, random),),
    "top": ((1.0, top),),
    "quantiles": ((1.0, quantiles),),
    "mix": ((0.2, top), (0.8, quantiles)),
    "importance": ((1.0, importance),),
}

# those that mean nothing where windows have no quantiles
BY_QUANTILE: Final = tuple(name for name, parts in SAMPLERS.items() if any(part is quantiles for _, part in parts))


def sample(
    name: str,
    maxima: NDArray[np.float32],
    labels: NDArray[np.int64],
    count: int,
    unwanted: Unwanted,
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], int]:
    """Draw `count` windows by the sampler of that name, none twice, passing over the unwanted ones.

    Args:
        name: one of `SAMPLERS`.
        maxima: each window's largest activation, in the order of positions, above 0.
        labels: each window's quantile, from 1.
        count: how many windows to draw.
        unwanted: tells which windows (indices into `maxima`) are passed over.
        generator: decides all that is left to chance.

    Returns:
        The windows drawn (indices into `maxima`), strongest first for `top`, else in an order that tells nothing of
        their strength but, for `importance`, that the strong ones tend to come early; and how many were passed over.
        Fewer than `count` where they run out.
    """
    refused: list[NDArray[np.int64]] = []
    drawn, left, share_before = np.empty(0, dtype=np.int64), np.arange(len(maxima)), 0.0
    for share, part in SAMPLERS[name]:
        # cumulated, so that the parts' counts add up to what is asked
        wanted = round(count * (share_before + share)) - round(count * share_before)
        share_before += share
        orders = [left[order] for order in part(maxima[left], labels, generator)]
        more, _ = draw_from(orders, wanted, _noting(unwanted, refused))
        drawn = np.concatenate([drawn, more])
        if part is SAMPLERS[name][-1][1]:
            break
        left = np.setdiff1d(left, np.concatenate([drawn, *refused]))
        # ranked anew: what an earlier part took from one quantile would else leave too few there
        labels = quantile_labels(maxima[left], int(labels.max(initial=0)))
    passed = sum(map(len, refused))
    return (generator.permutation(drawn) if name in BY_QUANTILE else drawn), passed


def _noting(unwanted: Unwanted, refused: list[NDArray[np.int64]]) -> Unwanted:
    def tell(some: NDArray[np.int64]) -> NDArray[np.bool_]:
        bad = unwanted(some)
        refused.append(some[bad])
        return bad

    return tell


def draw_from(orders: Sequence[NDArray[np.int64]], count: int, unwanted: Unwanted) -> tuple[NDArray[np.int64], int]:
    """Draw `count` items, as equally as possible from each order, passing over the unwanted ones.

    An unwanted item is replaced by the next of its own order. Returns the drawn items (order by order) and how
    many were passed over; fewer than `count` come back where an order ends.
    """
    wanted = [count // len(orders) + (place < count % len(orders)) for place in range(len(orders))] if orders else []
    kept: list[list[NDArray[np.int64]]] = [[] for _ in orders]
    reached, passed = [0] * len(orders), 0
    while any(wanted):
        parts = [order[at : at + need] for order, at, need in zip(orders, reached, wanted, strict=True)]
        some = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not len(some):
            break
        bad = unwanted(some)
        at = 0
        for place, part in enumerate(parts):
            good = part[~bad[at : at + len(part)]]
            at += len(part)
            kept[place].append(good)
            reached[place] += len(part)
            wanted[place] -= len(good)
        passed += int(bad.sum())
    chosen = [part for parts in kept for part in parts]
    return (np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)), passed
