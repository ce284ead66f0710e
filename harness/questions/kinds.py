"""What can be asked of a model, typed; a prompt variant renders it, a reply format answers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.questions.strength import Rounding
from harness.values import Example, Explanation, Passage, digest

__all__ = ["Answer", "Detect", "Explain", "Fuzz", "Judgement", "Question"]


@dataclass(frozen=True, slots=True)
class Explain:
    """What do these activating examples have in common?

    `maximum` is the latent's largest activation in the store, by which strengths are normalised and then rounded.
    """

    examples: tuple[Example, ...]
    maximum: float
    rounding: Rounding = "floor"

    name = "explain"

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        shown = [[e.passage.identity(), [round(float(a), 6) for a in e.activations]] for e in self.examples]
        return digest([self.name, shown, round(self.maximum, 6), self.rounding])


@dataclass(frozen=True, slots=True)
class Detect:
    """In which of these passages is the latent, described by the explanation, active?

    `explanation` is None where it is withheld (the control `none`).
    """

    explanation: Explanation | None
    passages: tuple[Passage, ...]

    name = "detect"

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        return _judged(self.name, self.explanation, self.passages)


@dataclass(frozen=True, slots=True)
class Fuzz:
    """In which of these passages are all marked tokens right for the explanation?

    `explanation` is None where it is withheld (the control `none`).
    """

    explanation: Explanation | None
    passages: tuple[Passage, ...]

    name = "fuzz"

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        return _judged(self.name, self.explanation, self.passages)


Question = Explain | Detect | Fuzz


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judge's labels, one a passage: 0 or 1, with P(1) in [0, 1] where the reply tells it, else None."""

    labels: tuple[int, ...]
    probabilities: tuple[float | None, ...]


Answer = Explanation | Judgement


def _judged(name: str, explanation: Explanation | None, passages: tuple[Passage, ...]) -> str:
    told: list[Any] | Mapping[str, Any] | None = None if explanation is None else explanation.identity()
    return digest([name, told, [passage.identity() for passage in passages]])
