"""What can be asked of a model, typed; a prompt variant renders it, a reply format answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.questions.messages import ToolCall
from harness.questions.strength import Rounding
from harness.values import Example, Explanation, Latent, Passage, Rise, digest

__all__ = [
    "Amplified",
    "Answer",
    "Choice",
    "Detect",
    "Experiment",
    "Explain",
    "Fuzz",
    "Generate",
    "Intruder",
    "Judgement",
    "Question",
    "Rises",
    "Sentences",
    "Simulate",
    "Simulation",
    "Steered",
    "Surprisal",
    "Texts",
    "Tried",
]


@dataclass(frozen=True, slots=True)
class Tried:
    """An explanation with what a judge got wrong by it: activating windows that it missed, silent ones that it took."""

    explanation: Explanation
    missed: tuple[Example, ...]
    taken: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Explain:
    """What do these activating examples have in common?

    `maximum` is the latent's largest activation in the store, by which strengths are normalised and then rounded.
    There may be more to go by: `silent` windows, what the latent's direction does to the logits by itself
    (`projected`), and what was `tried` before.
    """

    examples: tuple[Example, ...]
    maximum: float
    rounding: Rounding = "floor"
    silent: tuple[Example, ...] = ()
    projected: Rise | None = None
    tried: Tried | None = None

    name = "explain"

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        more: dict[str, Any] = {"silent": _shown(self.silent)} if self.silent else {}
        if self.projected is not None:
            more["projected"] = [self.projected.rose, self.projected.fell]
        if self.tried is not None:
            wrong = [_shown(self.tried.missed), _shown(self.tried.taken)]
            more["tried"] = [self.tried.explanation.identity(), *wrong]
        asked = [self.name, _shown(self.examples), round(self.maximum, 6), self.rounding]
        return digest([*asked, more] if more else asked)


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


@dataclass(frozen=True, slots=True)
class Simulate:
    """How strongly does the latent, described by the explanation, respond to each token of this passage?

    Strengths are whole numbers from 0 to `largest`; `explanation` is None where it is withheld.
    """

    explanation: Explanation | None
    passage: Passage
    largest: int = 10

    name = "simulate"

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The passage, as other judges' questions have theirs."""
        return (self.passage,)

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        return digest([_judged(self.name, self.explanation, self.passages), self.largest])


@dataclass(frozen=True, slots=True)
class Intruder:
    """In which of these passages is the latent silent that is active in all the others?"""

    passages: tuple[Passage, ...]

    name = "intruder"

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        return _judged(self.name, None, self.passages)


@dataclass(frozen=True, slots=True)
class Generate:
    """Write so many texts in which the latent, described by the explanation, is active somewhere, or is nowhere.

    `explanation` is None where it is withheld (the control `none`).
    """

    explanation: Explanation | None
    count: int
    activating: bool

    name = "generate"

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        return digest([_judged(self.name, self.explanation, ()), self.count, self.activating])


@dataclass(frozen=True, slots=True)
class Surprisal:
    """Which sentences go with the explanation? A base model is asked how likely a window is as the next of them.

    `explanation` is None for the one that all are compared with, which tells nothing.
    """

    explanation: Explanation | None

    name = "surprisal"

    @property
    def passages(self) -> tuple[Passage, ...]:
        """None: the window is what comes after the question."""
        return ()

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        return _judged(self.name, self.explanation, ())


@dataclass(frozen=True, slots=True)
class Rises:
    """What do the tokens have in common that become likelier where a latent is amplified?"""

    rises: tuple[Rise, ...]

    name = "intervention"

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        return digest([self.name, [[rise.text, rise.rose, rise.fell] for rise in self.rises]])


@dataclass(frozen=True, slots=True)
class Amplified:
    """What does this passage hold an amplified amount of? A base model is asked how likely an answer is."""

    passage: Passage

    name = "amplified"

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The passage, as judges' questions have theirs."""
        return (self.passage,)

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        return _judged(self.name, None, self.passages)


@dataclass(frozen=True, slots=True)
class Steered:
    """Which of two passages was written while what the explanation says was amplified?

    Each passage's new text is marked. `explanation` is None where it is withheld (the control `none`).
    """

    explanation: Explanation | None
    passages: tuple[Passage, Passage]

    name = "steered"

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        return _judged(self.name, self.explanation, self.passages)


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is to be done next to find out what a latent does: which tools are to be called, or what is submitted?

    `usual` makes a turn of the right form, its text and its calls, about an explanation of these words.
    """

    latent: Latent
    turn: int
    usual: Callable[[str], tuple[str, tuple[ToolCall, ...]]] = field(compare=False)

    name = "experiment"

    @property
    def explanation(self) -> None:
        """None is told: it is looked for."""
        return

    @property
    def passages(self) -> tuple[Passage, ...]:
        """None: what is shown stands in the conversation."""
        return ()

    def digest(self) -> str:
        """A hash that tells this question from any other."""
        return digest([self.name, self.latent.coder, self.latent.index, self.turn])


Question = (
    Explain | Detect | Fuzz | Simulate | Intruder | Generate | Surprisal | Rises | Amplified | Steered | Experiment
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judge's labels, one a passage: 0 or 1, with P(1) in [0, 1] where the reply tells it, else None."""

    labels: tuple[int, ...]
    probabilities: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Simulation:
    """A strength for each token of a passage, 0 to the question's `largest`."""

    strengths: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The passage chosen, from 1, with the probability of each where the reply tells it, else None."""

    number: int
    probabilities: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts written for a question, as many as it asks for."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sentences:
    """Sentences that go with an explanation, each on one line."""

    texts: tuple[str, ...]


Answer = Explanation | Judgement | Simulation | Choice | Texts | Sentences


def _shown(examples: Sequence[Example]) -> list[Any]:
    return [[e.passage.identity(), [round(float(a), 6) for a in e.activations]] for e in examples]


def _judged(name: str, explanation: Explanation | None, passages: tuple[Passage, ...]) -> str:
    told: list[Any] | Mapping[str, Any] | None = None if explanation is None else explanation.identity()
    return digest([name, told, [passage.identity() for passage in passages]])
