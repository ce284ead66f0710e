"""Checks what a partial coder says of where its latents were observed: it has to cover every firing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.store.format import CoderManifest, Observed
from harness.store.segments import Part

__all__ = ["check_observed"]


def check_observed(
    coder: CoderManifest, observed: Observed, parts: Sequence[Part], context: int, n_contexts: int
) -> None:
    """Compare a coder's observed contexts with its segments.

    Raises:
        ValueError: they are no such matrix, or a latent fires in a context where it was not observed.
    """
    indptr, contexts = observed.indptr, observed.contexts
    fits = len(indptr) == coder.n_latents + 1 and indptr[0] == 0 and indptr[-1] == len(contexts)
    if not fits or (len(contexts) and (contexts.min() < 0 or contexts.max() >= n_contexts)):
        raise ValueError(f'observed of "{coder.name}" does not fit its latents and the contexts')
    pairs = _pairs(indptr, contexts, n_contexts)
    if (np.diff(pairs) <= 0).any():
        raise ValueError(f'observed of "{coder.name}" has contexts of a latent that do not ascend')
    for part in parts:
        edges = part.edges(0, coder.n_latents)
        fired = _pairs(edges, part.positions(0, part.nonzeros) // np.uint32(context), n_contexts)
        beyond = np.flatnonzero(~np.isin(fired, pairs))
        if len(beyond):
            latent, place = divmod(int(fired[beyond[0]]), n_contexts)
            raise ValueError(f'latent {latent} of "{coder.name}" fires in context {place}, where it was not observed')


def _pairs(indptr: NDArray[np.int64], contexts: NDArray[np.integer], n_contexts: int) -> NDArray[np.int64]:
    """Latent and context as one number."""
    return np.repeat(np.arange(len(indptr) - 1, dtype=np.int64) * n_contexts, np.diff(indptr)) + contexts
