"""What is known of each latent without reading it: how often, how widely, how strongly and on which tokens it fires."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "BLOCK", "KEPT", "RARE", "SINGLE", "Statistics", "Tally", "blocks"]

# bins of a latent's histogram: enough to see a second mode, few enough to be a percent of a large store
BINS = 20
# the count of firings below which the paper's section 3.1 calls a latent rare
RARE = 200
# the share of firings on one token from which a latent counts as that token's
SINGLE = 0.9
# nonzeros that are looked at together
BLOCK = 1 << 20
# the arrays that a store keeps, with their type and what follows [latents] in their shape
KEPT: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "contexts": ("<i8", ()),
    "total": ("<f8", ()),
    "squares": ("<f8", ()),
    "histogram": ("<u4", (BINS,)),
    "tokens": ("<i8", ()),
    "top_token": ("<i8", ()),
    "top_firings": ("<i8", ()),
}


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Statistics of a coder's latents: arrays `[latents]`, if not said otherwise, with 0 for a latent that never fires.

    `read` counts the tokens at which the latent was looked at, those put in (BOS, padding) left out; `firings` those at
    which it fired, `contexts` the contexts in which it did. `maximum`, `total` and `squares` are the largest
    activation, the sum and the sum of squares of activations. `histogram` is `[latents, BINS]`: equal parts of the
    range from 0 to the latent's maximum, the lower edge in the part, the maximum in the last. `tokens` counts the
    distinct tokens it fires on; `top_token` is the one it fires on most often (of equals the smallest id; -1 for
    none) and `top_firings` how often.
    """

    read: NDArray[np.int64]
    firings: NDArray[np.int64]
    contexts: NDArray[np.int64]
    maximum: NDArray[np.float32]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    histogram: NDArray[np.uint32]
    tokens: NDArray[np.int64]
    top_token: NDArray[np.int64]
    top_firings: NDArray[np.int64]

    @property
    def rate(self) -> NDArray[np.float64]:
        """The share of tokens at which each latent fires, 0 to 1."""
        return self.firings / np.maximum(self.read, 1)

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean activation where the latent fires."""
        return self.total / np.maximum(self.firings, 1)

    @property
    def deviation(self) -> NDArray[np.float64]:
        """The standard deviation of activations where the latent fires (divided by n)."""
        spread = self.squares / np.maximum(self.firings, 1) - self.mean**2
        return np.sqrt(np.maximum(spread, 0))

    @property
    def top_share(self) -> NDArray[np.float64]:
        """The share of a latent's firings that are on its most common token, 0 to 1."""
        return self.top_firings / np.maximum(self.firings, 1)

    @property
    def l0(self) -> float:
        """How many latents fire at a token, on average."""
        return float(self.rate.sum())

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Which latents never fire."""
        return self.firings == 0

    def rare(self, below: int = RARE) -> NDArray[np.bool_]:
        """Which latents fire fewer than so many times, dead ones among them (as in the paper's section 3.1)."""
        return self.firings < below

    def single_token(self, share: float = SINGLE) -> NDArray[np.bool_]:
        """Which latents have at least that share of their firings on one token; dead ones are none."""
        return ~self.dead & (self.top_share >= share)


class Tally:
    """Counts while blocks of latents pass by, each of them once and whole; memory grows with the latents alone."""

    def __init__(self, indptr: NDArray[np.int64], context: int) -> None:
        n_latents = len(indptr) - 1
        self._indptr = indptr
        self._context = context
        self.maximum: NDArray[np.float32] = np.zeros(n_latents, dtype=np.float32)
        self.arrays: dict[str, NDArray[Any]] = {
            name: np.zeros((n_latents, *more), dtype=dtype) for name, (dtype, more) in KEPT.items()
        }
        self.arrays["top_token"][:] = -1

    def add(
        self,
        first: int,
        last: int,
        positions: NDArray[np.uint32],
        tokens: NDArray[np.uint32],
        values: NDArray[np.floating[Any]],
    ) -> None:
        """Count latents `first` to `last`: all their positions, the tokens there and the values, latent by latent."""
        starts = self._indptr[first : last + 1] - self._indptr[first]
        if starts[-1] == 0:
            return
        self._add_contexts(slice(first, last), starts, positions)
        self._add_tokens(first, starts, tokens)
        self._add_values(slice(first, last), starts, values)

    def _add_contexts(self, latents: slice, starts: NDArray[np.int64], positions: NDArray[np.uint32]) -> None:
        contexts = positions // np.uint32(self._context)
        new = np.empty(len(contexts), dtype=bool)
        np.not_equal(contexts[1:], contexts[:-1], out=new[1:])
        new[starts[:-1][np.diff(starts) > 0]] = True
        self.arrays["contexts"][latents] = np.diff(np.searchsorted(np.flatnonzero(new), starts))

    def _add_tokens(self, first: int, starts: NDArray[np.int64], tokens: NDArray[np.uint32]) -> None:
        # latent and token as one number of 32 bits, which sorts twice as fast as one of 64
        span = int(tokens.max()) + 1
        step = max(1, np.iinfo(np.uint32).max // span)
        for low in range(0, len(starts) - 1, step):
            part = starts[low : low + step + 1]
            if part[-1] > part[0]:
                inside = slice(first + low, first + low + len(part) - 1)
                self._count_tokens(inside, part - part[0], tokens[part[0] : part[-1]], span)

    def _count_tokens(self, latents: slice, starts: NDArray[np.int64], tokens: NDArray[np.uint32], span: int) -> None:
        keys = np.repeat(np.arange(len(starts) - 1, dtype=np.uint32) * np.uint32(span), np.diff(starts))
        keys += tokens
        keys.sort()
        runs = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        lengths = np.diff(runs, append=len(keys))
        edges = np.searchsorted(runs, starts)
        self.arrays["tokens"][latents] = np.diff(edges)
        # the longest run, and of equals the smallest token
        found = keys[runs] % np.uint32(span)
        order = (lengths << 32) + (np.iinfo(np.uint32).max - found.astype(np.int64))
        alive = np.diff(edges) > 0
        best = np.maximum.reduceat(order, edges[:-1][alive])
        self.arrays["top_firings"][latents][alive] = best >> 32
        self.arrays["top_token"][latents][alive] = np.iinfo(np.uint32).max - (best & np.iinfo(np.uint32).max)

    def _add_values(self, latents: slice, starts: NDArray[np.int64], values: NDArray[np.floating[Any]]) -> None:
        counts = np.diff(starts)
        alive = counts > 0
        # silent latents have no entries: leaving their starts out gives each live one exactly its own
        begin = starts[:-1][alive]
        # float32 is exact enough for float16's products and quotients: rounding takes nothing across a bin's edge
        wide = values.astype(np.float32 if values.dtype == np.float16 else np.float64)
        most = np.maximum.reduceat(wide, begin)
        self.maximum[latents][alive] = most
        self.arrays["total"][latents][alive] = np.add.reduceat(wide, begin, dtype=np.float64)
        self.arrays["squares"][latents][alive] = np.add.reduceat(wide * wide, begin, dtype=np.float64)
        wide *= BINS
        wide /= np.repeat(most, counts[alive])
        bins = wide.astype(np.int32)
        np.minimum(bins, BINS - 1, out=bins)
        bins += np.repeat(np.arange(len(begin), dtype=np.int32) * BINS, counts[alive])
        cells = np.bincount(bins, minlength=len(begin) * BINS).reshape(-1, BINS)
        self.arrays["histogram"][latents][alive] = cells


def blocks(indptr: NDArray[np.int64], size: int) -> list[tuple[int, int]]:
    """Ranges of latents of about `size` nonzeros, first and behind last; a denser latent is a range of its own."""
    found, first, n_latents = [], 0, len(indptr) - 1
    while first < n_latents:
        reach = int(np.searchsorted(indptr, indptr[first] + size, side="right")) - 1
        last = min(max(reach, first + 1), n_latents)
        found.append((first, last))
        first = last
    return found
