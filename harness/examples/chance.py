"""What is left to chance in a draw: a generator for each latent and purpose."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

__all__ = ["Chance"]


class Chance:
    """Generators of one latent's draws: equal seed, coder, latent and purpose give an equal one.

    NumPy's own way from a number to a generator takes several times as long, and a latent needs seven of them.
    """

    def __init__(self, seed: int, coder: str, latent: int) -> None:
        self._begun = hashlib.sha256(json.dumps([seed, coder, latent]).encode())

    def generator(self, purpose: str) -> np.random.Generator:
        """A generator for this purpose, always from its beginning."""
        hashed = self._begun.copy()
        hashed.update(purpose.encode())
        # NumPy documents that it takes any ISeedSequence; its types do not
        return np.random.Generator(np.random.PCG64(cast(Any, _Words(hashed.digest()))))


class _Words(ISeedSequence):
    """The 256 bits of a hash as the state of a generator: they need no more mixing."""

    def __init__(self, bits: bytes) -> None:
        self._bits = bits

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[Any]:
        """The first words of that type."""
        return np.frombuffer(self._bits, dtype=dtype, count=n_words)
