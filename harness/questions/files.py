"""A prompt file's contents, validated, and its few-shot blocks as questions with their answers."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import PromptError
from harness.questions.kinds import (
    Amplified,
    Answer,
    Choice,
    Detect,
    Explain,
    Fuzz,
    Generate,
    Intruder,
    Judgement,
    Question,
    Rises,
    Sentences,
    Simulate,
    Simulation,
    Steered,
    Surprisal,
    Texts,
)
from harness.questions.render import parse_marked
from harness.questions.strength import STRONGEST
from harness.values import Example, Explanation, Passage, Rise

__all__ = [
    "AmplifiedFile",
    "AmplifiedShot",
    "ExplainFile",
    "ExplainShot",
    "GenerateFile",
    "GenerateShot",
    "InterventionFile",
    "InterventionShot",
    "IntruderFile",
    "IntruderShot",
    "JudgeFile",
    "JudgeShot",
    "Labelled",
    "PromptFile",
    "RiseShot",
    "Sampling",
    "Shot",
    "SimulateFile",
    "SimulateShot",
    "SteeredFile",
    "SteeredShot",
    "SurprisalFile",
    "SurprisalShot",
    "Templates",
    "first_error",
    "read",
    "shot_question",
]

Words = Annotated[str, Field(min_length=1)]
Strength = Annotated[int, Field(ge=1, le=10)]
Line = Annotated[str, Field(min_length=1, pattern=r"^[^\n\r]+$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sampling(_Frozen):
    """How the reply is drawn; without a temperature the provider's own holds."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int = Field(ge=1)
    logprobs: bool = False


class Templates(_Frozen):
    """The messages; `withheld` stands in place of an explanation that is withheld (in questions that tell one)."""

    system: Words
    user: Words
    withheld: Words | None = None


class ExplainShot(_Frozen):
    """Examples with their explanation.

    An example is a list of pieces of text: a string is silent, a pair `["text", 7]` a token with its strength.
    `reasoning` stands before the explanation in the reply; `silent` are texts without any such token, `promoted` and
    `suppressed` tokens, for variants that show these.
    """

    examples: tuple[tuple[Words | tuple[Words, Strength], ...], ...] = Field(min_length=1)
    explanation: Words
    reasoning: Words | None = None
    silent: tuple[Words, ...] = ()
    promoted: tuple[Words, ...] = ()
    suppressed: tuple[Words, ...] = ()


class Labelled(_Frozen):
    """A passage with its label; in `fuzz` marked with `<<` and `>>`, in the notation of the rendered text."""

    text: Words
    label: Literal[0, 1]


class JudgeShot(_Frozen):
    """Passages with their labels under an explanation."""

    explanation: Words
    passages: tuple[Labelled, ...] = Field(min_length=1)


class ExplainFile(_Frozen):
    """A variant of `explain`."""

    description: Words
    reply: Literal["explanation"]
    sampling: Sampling
    templates: Templates
    shot: tuple[ExplainShot, ...] = ()


class JudgeFile(_Frozen):
    """A variant of `detect` or `fuzz`; a prompt holds at most `batch` passages, where that is given."""

    description: Words
    reply: Literal["labels", "label-object", "label"]
    batch: int | None = Field(default=None, ge=1)
    sampling: Sampling
    templates: Templates
    shot: tuple[JudgeShot, ...] = ()

    @model_validator(mode="after")
    def _one_label(self) -> JudgeFile:
        if self.reply == "label" and self.batch != 1:
            raise ValueError('the reply "label" is of one passage: give batch = 1')
        return self


class SimulateShot(_Frozen):
    """A passage, as an example of `explain`, with its explanation; it shows the strengths that are right."""

    explanation: Words
    passage: tuple[Words | tuple[Words, Strength], ...] = Field(min_length=1)


class SimulateFile(_Frozen):
    """A variant of `simulate`: a list of strengths as the reply, or lines whose values are read from logprobs."""

    description: Words
    reply: Literal["strengths", "strength-lines"]
    sampling: Sampling
    templates: Templates
    shot: tuple[SimulateShot, ...] = ()


class IntruderShot(_Frozen):
    """Passages and the number, from 1, of the one that does not belong."""

    passages: tuple[Words, ...] = Field(min_length=2)
    intruder: Annotated[int, Field(ge=1)]


class IntruderFile(_Frozen):
    """A variant of `intruder`."""

    description: Words
    reply: Literal["number"]
    sampling: Sampling
    templates: Templates
    shot: tuple[IntruderShot, ...] = ()


class GenerateShot(_Frozen):
    """Texts in which a latent with an explanation is active (`activating`), or is not."""

    explanation: Words
    activating: bool
    texts: tuple[Words, ...] = Field(min_length=1)


class GenerateFile(_Frozen):
    """A variant of `generate`."""

    description: Words
    reply: Literal["texts"]
    sampling: Sampling
    templates: Templates
    shot: tuple[GenerateShot, ...] = ()


class SurprisalShot(_Frozen):
    """Sentences, each on one line, with the explanation that they go with."""

    explanation: Words
    sentences: tuple[Line, ...] = Field(min_length=1)


class SurprisalFile(_Frozen):
    """A variant of `surprisal`; nothing is drawn, so it has no `[sampling]`."""

    description: Words
    reply: Literal["sentences"]
    templates: Templates
    shot: tuple[SurprisalShot, ...] = ()

    @property
    def sampling(self) -> Sampling:
        """What stands in its place."""
        return Sampling(max_tokens=1, logprobs=True)


class RiseShot(_Frozen):
    """A text, or none, and the tokens that rose and fell there: pairs `[" sea", 0.21]`."""

    text: Words | None = None
    rose: tuple[tuple[Words, float], ...] = Field(min_length=1)
    fell: tuple[tuple[Words, float], ...] = ()


class InterventionShot(_Frozen):
    """Texts with the tokens that rose and fell there, and the explanation."""

    explanation: Words
    examples: tuple[RiseShot, ...] = Field(min_length=1)


class InterventionFile(_Frozen):
    """A variant of `intervention`."""

    description: Words
    reply: Literal["explanation"]
    sampling: Sampling
    templates: Templates
    shot: tuple[InterventionShot, ...] = ()


class AmplifiedShot(_Frozen):
    """A passage and what it holds an amplified amount of."""

    passage: Words
    explanation: Words


class AmplifiedFile(_Frozen):
    """A variant of `amplified`; nothing is drawn, so it has no `[sampling]`."""

    description: Words
    reply: Literal["quoted"]
    templates: Templates
    shot: tuple[AmplifiedShot, ...] = ()

    @property
    def sampling(self) -> Sampling:
        """What stands in its place."""
        return Sampling(max_tokens=1, logprobs=True)


class SteeredShot(_Frozen):
    """Two passages with their new text marked with `<<` and `>>`, and the number of the amplified one."""

    explanation: Words
    passages: tuple[Words, Words]
    amplified: Literal[1, 2]


class SteeredFile(_Frozen):
    """A variant of `steered`."""

    description: Words
    reply: Literal["number"]
    sampling: Sampling
    templates: Templates
    shot: tuple[SteeredShot, ...] = ()


PromptFile = (
    ExplainFile
    | JudgeFile
    | SimulateFile
    | IntruderFile
    | GenerateFile
    | SurprisalFile
    | InterventionFile
    | AmplifiedFile
    | SteeredFile
)
Shot = (
    ExplainShot
    | JudgeShot
    | SimulateShot
    | IntruderShot
    | GenerateShot
    | SurprisalShot
    | InterventionShot
    | AmplifiedShot
    | SteeredShot
)

_FILES: dict[str, type[PromptFile]] = {
    "explain": ExplainFile,
    "detect": JudgeFile,
    "fuzz": JudgeFile,
    "simulate": SimulateFile,
    "intruder": IntruderFile,
    "generate": GenerateFile,
    "surprisal": SurprisalFile,
    "intervention": InterventionFile,
    "amplified": AmplifiedFile,
    "steered": SteeredFile,
}


def read(path: Path, question: str, source: str) -> PromptFile:
    """A prompt file's contents.

    Raises:
        PromptError: it is no TOML, a key is missing, unknown or of the wrong type.
    """
    try:
        data = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise PromptError(f"{path}: not a TOML file: {error}") from error
    try:
        return _FILES[question].model_validate(data)
    except ValidationError as error:
        raise PromptError(f"{path}: {first_error(error)}") from error


def shot_question(name: str, shot: Shot) -> tuple[Question, Answer]:
    """A few-shot block as the question it asks and its answer.

    Raises:
        ValueError: a passage's marks do not pair up, or there are none where there have to be.
    """
    if isinstance(shot, ExplainShot):
        # strengths are written on the scale on which they are shown
        examples = tuple(_example(parts) for parts in shot.examples)
        silent = tuple(_example([text]) for text in shot.silent)
        rise = Rise(None, tuple((text, 1.0) for text in shot.promoted), tuple((text, -1.0) for text in shot.suppressed))
        projected = rise if rise.rose or rise.fell else None
        question = Explain(examples, float(STRONGEST), silent=silent, projected=projected)
        return question, Explanation(shot.explanation)
    if isinstance(shot, IntruderShot):
        return Intruder(tuple(Passage((text,)) for text in shot.passages)), Choice(shot.intruder)
    told = Explanation(shot.explanation)
    if isinstance(shot, InterventionShot):
        return Rises(tuple(Rise(one.text, one.rose, one.fell) for one in shot.examples)), told
    if isinstance(shot, AmplifiedShot):
        return Amplified(Passage((shot.passage,))), told
    if isinstance(shot, SteeredShot):
        first, second = shot.passages
        return Steered(told, (_marked(first), _marked(second))), Choice(shot.amplified)
    if isinstance(shot, GenerateShot):
        return Generate(told, len(shot.texts), shot.activating), Texts(shot.texts)
    if isinstance(shot, SurprisalShot):
        return Surprisal(told), Sentences(shot.sentences)
    if isinstance(shot, SimulateShot):
        example = _example(shot.passage)
        return Simulate(told, example.passage), Simulation(tuple(example.activations.tolist()))
    labels = tuple(passage.label for passage in shot.passages)
    answer = Judgement(labels, (None,) * len(labels))
    if name == "detect":
        return Detect(told, tuple(Passage((passage.text,)) for passage in shot.passages)), answer
    return Fuzz(told, tuple(_marked(passage.text) for passage in shot.passages)), answer


def _example(parts: Sequence[str | tuple[str, int]]) -> Example:
    pairs = [(part, 0) if isinstance(part, str) else part for part in parts]
    tokens = tuple(text for text, _ in pairs)
    return Example(Passage(tokens), np.array([strength for _, strength in pairs], np.float32))


def _marked(text: str) -> Passage:
    tokens, marks = parse_marked(text)
    if not marks:
        raise ValueError(f'nothing is marked with << and >> in "{text}"')
    return Passage(tokens, marks)


def first_error(error: ValidationError) -> str:
    """The first thing wrong, with its key as one would write it."""
    detail = error.errors()[0]
    key = ""
    for part in detail["loc"]:
        key += f"[{part + 1}]" if isinstance(part, int) else f"{'.' if key else ''}{part}"
    wrong = {"missing": "is missing", "extra_forbidden": "is not a key of a prompt file"}
    return f"{key}: {wrong.get(detail['type']) or detail['msg'][0].lower() + detail['msg'][1:]}"
