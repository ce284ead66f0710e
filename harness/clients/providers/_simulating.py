"""Answers without a language model to questions that want no labels: strengths of tokens, the odd one of passages."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from harness.values import Passage

__all__ = ["odd_one", "token_strengths"]

_WORD = re.compile(r"\w+")


def token_strengths(strengths: ArrayLike, largest: int) -> tuple[float, ...]:
    """A rule's strengths in a window as whole numbers up to `largest`, which its strongest token has; 0 is silence."""
    values = np.asarray(strengths, np.float64)
    top = values.max(initial=0.0)
    if top <= 0:
        return (0.0,) * len(values)
    return tuple(np.ceil(largest * np.clip(values, 0, None) / top).tolist())


def odd_one(passages: Sequence[Passage]) -> int:
    """The passage, from 0, that has least of what the others all have in common; the first of several.

    A word counts for as much as the square of how many of the other passages have it.
    """
    words = [set(_WORD.findall(passage.text.lower())) for passage in passages]
    counts = [
        sum(sum(word in other for other in words[:at] + words[at + 1 :]) ** 2 for word in own)
        for at, own in enumerate(words)
    ]
    return counts.index(min(counts))
