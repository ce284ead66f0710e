"""Interventions without a language model: what rose put into words, and which of two passages holds more of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness import rules
from harness.clients.providers._overlap import quotations, stems_of
from harness.clients.providers._writing import pieces_of
from harness.questions.render import quote
from harness.values import Explanation, Passage, Rise

__all__ = ["chances", "described", "held", "mentions"]

# tokens that a description names, and the share of the most risen one's rise that others need
_MOST = 6
_LEAST = 0.1


def described(rises: Sequence[Rise]) -> Explanation | None:
    """The tokens that rose most over all texts, as a sentence that quotes them; None where nothing rose."""
    total: defaultdict[str, float] = defaultdict(float)
    for rise in rises:
        for token, by in rise.rose:
            if token.strip():
                total[token] += by
    ranked = sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))
    named = [token for token, by in ranked[:_MOST] if by >= _LEAST * ranked[0][1]]
    return Explanation("more of " + ", ".join(map(quote, named))) if named else None


def held(rule: rules.Rule, passage: Passage) -> float:
    """How much a passage's marked text holds of a rule: its strengths summed, what stands before seen."""
    before, new = parts(passage)
    opening = pieces_of(before)
    return float(rule.strengths((*opening, *pieces_of(new)[1:]))[len(opening) :].sum())


def mentions(explanation: str, passage: Passage) -> float:
    """How often a passage's marked text holds what the explanation quotes, or its words where it quotes nothing."""
    _, new = parts(passage)
    named = quotations(explanation)
    if named:
        return float(sum(new.count(piece) for piece in named))
    wanted = set(stems_of(explanation))
    return float(sum(stem in wanted for stem in stems_of(new)))


def chances(amounts: Sequence[float]) -> NDArray[np.float64]:
    """The guessed probability of each passage to be the amplified one, by how much of it each holds."""
    counted = np.asarray(amounts, np.float64) + 0.5
    return counted / counted.sum()


def parts(passage: Passage) -> tuple[str, str]:
    """A passage's text before its marks, and the marked one."""
    marked = set(passage.marks)
    before = "".join(token for at, token in enumerate(passage.tokens) if at not in marked)
    return before, "".join(passage.tokens[at] for at in passage.marks)
