"""Latents that are rules over the text itself: a coder whose every latent is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness import resources, rules
from harness.store.format import Rows
from harness.subject.coders.protocol import CoderInfo
from harness.task import CoderSettings

__all__ = ["PlantedCoder"]


class PlantedCoder:
    """The coder kind `planted`: latent i is concept i of a concepts file, the shipped one unless `path` names another.

    It reads token strings alone, no activations, and has neither hookpoint nor decoder.
    """

    reads: ClassVar[str] = "tokens"
    decoder = None

    def __init__(self, concepts: rules.Concepts) -> None:
        self.info = CoderInfo(len(concepts.concepts), None, None, "", concepts.revision)
        self.concepts = concepts.concepts

    @classmethod
    def describe(cls, settings: CoderSettings, base: Path) -> CoderInfo:
        """How many concepts there are, and the hash of their file.

        Raises:
            CoderError: the file is missing or wrong.
        """
        return cls.load(settings, base).info

    @classmethod
    def load(
        cls,
        settings: CoderSettings,
        base: Path,
        device: str = "cpu",  # noqa: ARG003 - no torch
        info: CoderInfo | None = None,  # noqa: ARG003 - costs nothing to find again
    ) -> PlantedCoder:
        """The coder; `path` is relative to `base`.

        Raises:
            CoderError: the file is missing or wrong.
        """
        path = resources.fixture("concepts.json") if settings.path is None else base / settings.path
        return cls(rules.load_concepts(path))

    def strengths(self, latent: int, pieces: Sequence[str]) -> NDArray[np.float32]:
        """`[positions]`: a concept's strength on each token string of a context, 0 where it does not fire."""
        return self.concepts[latent].parsed.strengths(pieces)

    def encode_pieces(self, contexts: Sequence[Sequence[str]]) -> Rows:
        """The concepts that fire at each position of `[contexts][positions]` token strings, with their strengths."""
        positions: list[np.ndarray] = []
        latents: list[np.ndarray] = []
        values: list[np.ndarray] = []
        start = 0
        for pieces in contexts:
            text = rules.Text(pieces)
            for latent, concept in enumerate(self.concepts):
                strengths = concept.parsed.strengths(text)
                fired = np.flatnonzero(strengths)
                positions.append(fired + start)
                latents.append(np.full(len(fired), latent, dtype=np.int32))
                values.append(strengths[fired])
            start += len(pieces)
        return _rows(start, positions, latents, values)


def _rows(count: int, positions: list[np.ndarray], latents: list[np.ndarray], values: list[np.ndarray]) -> Rows:
    """CSR from triplets; latents ascend within a position."""
    at = np.concatenate([np.empty(0, np.int64), *positions])
    order = np.argsort(at, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=count))]).astype(np.int64)
    return Rows(
        indptr,
        np.concatenate([np.empty(0, np.int32), *latents])[order],
        np.concatenate([np.empty(0, np.float32), *values])[order],
    )
