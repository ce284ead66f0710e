"""Synthetic activations at the width of a large SAE: what benchmarks share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.store import CoderFrame, ManifestFrame, Rows, StoreWriter, Vocabulary

__all__ = ["BATCH", "CONTEXT", "WINDOW", "WORDS", "Size", "batches", "firing_rates", "writer"]

CONTEXT, BATCH, WORDS, WINDOW = 256, 32, 256_000, 32


@dataclass(frozen=True)
class Size:
    """What is measured on: tokens, latents, how many fire at a token, and how many latents are looked up."""

    tokens: int
    latents: int
    density: int
    draws: int
    rows: bool = False


def firing_rates(size: Size) -> NDArray[Any]:
    """The share of firings of each latent: a power law with a tail cut off, 15 % dead, in no order."""
    rank = np.arange(size.latents)
    rates = (rank + 100.0) ** -1.1 * np.exp(-((rank / (0.7 * size.latents)) ** 3))
    rates[round(0.85 * size.latents) :] = 0
    return np.random.default_rng(0).permutation(rates / rates.sum())


def batches(size: Size, step: int = 1) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32], Rows]]:
    """Random text and activations, every `step`-th batch.

    `density` slots a token; three in ten have the latent that the slot had at the token before, so latents fire in
    bursts; values are lognormal above a threshold of the latent, tokens follow Zipf's law.
    """
    cumulative = np.cumsum(firing_rates(size))
    thresholds = np.random.default_rng(1).uniform(0.5, 4, size.latents).astype(np.float32)
    positions = CONTEXT * BATCH
    for start in range(0, size.tokens, positions * step):
        generator = np.random.default_rng(start)
        slots = np.searchsorted(cumulative, generator.random((positions, size.density))).clip(0, size.latents - 1)
        again = np.flatnonzero((generator.random(slots.size) < 0.3) & (np.arange(slots.size) >= size.density))
        slots.reshape(-1)[again] = slots.reshape(-1)[again - size.density]
        slots.sort(axis=1)
        first = np.ones(slots.shape, dtype=bool)
        np.not_equal(slots[:, 1:], slots[:, :-1], out=first[:, 1:])
        latents = slots[first].astype(np.int32)
        values = thresholds[latents] + generator.lognormal(0, 1, len(latents)).astype(np.float32)
        indptr = np.concatenate([[0], np.cumsum(first.sum(axis=1))])
        tokens = generator.zipf(1.2, (BATCH, CONTEXT)).clip(1, WORDS - 1).astype(np.uint32)
        documents = (np.arange(start, start + positions) // 700).astype(np.int32).reshape(BATCH, CONTEXT)
        yield tokens, documents, Rows(indptr, latents, values)


def writer(size: Size, folder: Path) -> StoreWriter:
    """A writer of a store of such activations, of one coder `c`."""
    vocabulary = Vocabulary(tuple(f" w{index}" for index in range(WORDS)))
    frame = ManifestFrame(model="synthetic", corpus={}, context=CONTEXT)
    return StoreWriter.create(folder, frame, vocabulary, [CoderFrame("c", size.latents, "block", rows=size.rows)])
