"""The loaded subject and the coders that read its activations: batches of tokens in, sparse rows out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import CoderError
from harness.store.format import Rows
from harness.subject.coders.protocol import ActivationCoder
from harness.subject.figures import CoderFigures, FigureSums
from harness.subject.hookpoints import Hookpoint
from harness.subject.threads import torch_threads
from harness.subject.tracing import Traced

__all__ = ["Reading"]

Batch = tuple[NDArray[np.uint32], NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class Reading:
    """A subject with coders at its hookpoints."""

    traced: Traced
    hookpoints: Mapping[str, Hookpoint]
    coders: Mapping[str, ActivationCoder]
    threads: int | None = None

    def rows(self, tokens: NDArray[np.uint32], documents: NDArray[np.int32]) -> dict[str, Rows]:
        """What fires at each position of `[batch, seq]`, by coder; nothing at positions of no document.

        Raises:
            HookpointError: a hookpoint does not exist.
            CoderError: a coder's width is not its hookpoint's.
        """
        with torch_threads(self.threads):
            kept, found = self._activations(tokens, documents)
            return {name: _spread(self.coders[name].encode(found[name]), kept) for name in self.coders}

    def figures(self, batches: Iterable[Batch], tokens: int) -> dict[str, CoderFigures]:
        """Each coder's figures on the first `tokens` tokens of documents, or all if there are fewer."""
        sums = {name: FigureSums(coder.info.d_in or 0) for name, coder in self.coders.items()}
        left = tokens
        with torch_threads(self.threads):
            for ids, documents in batches:
                _, found = self._activations(ids, documents)
                for name, coder in self.coders.items():
                    chosen = found[name][:left].float()
                    rows = coder.encode(chosen)
                    sums[name].add(chosen, coder.decode(rows, chosen).to(chosen.device), len(rows.latents))
                left -= int((documents >= 0).sum())
                if left <= 0:
                    break
        return {name: total.figures() for name, total in sums.items()}

    def _activations(
        self, tokens: NDArray[np.uint32], documents: NDArray[np.int32]
    ) -> tuple[NDArray[np.bool_], dict[str, torch.Tensor]]:
        """Which positions are kept, flat, and each coder's activations there, `[kept, d]`."""
        ids = torch.from_numpy(tokens.astype(np.int64))
        held = self.traced.collect(ids, list(self.hookpoints.values()))
        kept = documents.reshape(-1) >= 0
        where = torch.from_numpy(np.flatnonzero(kept))
        found: dict[str, torch.Tensor] = {}
        for name, hookpoint in self.hookpoints.items():
            hidden = held[hookpoint]
            self._check(name, hookpoint, hidden)
            found[name] = hidden.reshape(-1, hidden.shape[-1])[where.to(hidden.device)]
        return kept, found

    def _check(self, name: str, hookpoint: Hookpoint, hidden: torch.Tensor) -> None:
        wanted = self.coders[name].info.d_in
        if hidden.ndim != 3 or hidden.shape[-1] != wanted:
            raise CoderError(
                f'coder "{name}" reads vectors of width {wanted}, and hookpoint "{hookpoint}" has '
                f"{list(hidden.shape[2:]) or list(hidden.shape)}: the SAE belongs to another model or hookpoint"
            )


def _spread(rows: Rows, kept: NDArray[np.bool_]) -> Rows:
    """Rows of kept positions as rows of all positions."""
    counts = np.zeros(len(kept), np.int64)
    counts[kept] = np.diff(rows.indptr)
    return Rows(np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), rows.latents, rows.values)
