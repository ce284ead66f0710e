"""`truth/...`: a judge that knows the planted world, with error rates that are set.

It is told the explanation and where the passages stand, never activations or labels. A registered sentence, or a rule
that the explanation carries, is evaluated on the passages' text: in detection the rule has to fire anywhere in the
window, in fuzzing on every marked token; simulating, it tells the rule's strength on each token. An intruder is the
passage that lacks a concept which all the others have. Asked to write, it takes stretches of the world's held-out text
in which the rule fires, or does not. Any other explanation it cannot judge, and says so in prose that no reply format
takes for an answer. Where the explanation is withheld a coin decides, and texts are any.

Every error is decided by a hash of the model's name, the seed, the explanation and the passage, so that it depends
neither on the order of the questions nor, unless asked for, on the passages asked about together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Annotated, Any

import anyio.to_thread
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness import resources, rules
from harness.clients.protocol import Capabilities, Reply, Request
from harness.clients.providers._simulating import token_strengths
from harness.clients.providers._steering import held
from harness.clients.providers._typed import USAGE, answerable, rule_of
from harness.clients.providers._writing import library, peak, put_in, spelled
from harness.clients.wire import Wire
from harness.errors import BadRequest
from harness.questions.kinds import (
    Answer,
    Choice,
    Detect,
    Explain,
    Fuzz,
    Generate,
    Intruder,
    Judgement,
    Rises,
    Simulate,
    Simulation,
    Steered,
    Texts,
)
from harness.questions.replies import as_text
from harness.values import Explanation, Passage, seed_of

__all__ = ["TruthClient", "TruthProvider", "TruthSettings"]

_VERSION = 1  # raise it when the same question gets another answer
_NORMAL = NormalDist()
_MALFORMED = (
    "I would say the first of them, and perhaps one more.",
    "Several of these texts fit the explanation quite well.",
    "It is hard to tell without more of the text.",
)
_UNKNOWN = "I do not know this explanation, so I cannot tell which of the texts fit it."
_REFUSAL = "I cannot help with that."

Share = Annotated[float, Field(ge=0, lt=1)]


class TruthSettings(BaseModel):
    """How often, and how, the judge errs; without settings it never does.

    `concepts` is a concepts file, the shipped one unless set. `false_positive` and `false_negative` are the chances to
    call a silent passage firing and a firing one silent; in writing, to put a silent text where a firing one was asked
    for is a false negative. `latent_effect` is the standard deviation, in logits, of a normal effect that each
    explanation adds to both rates. `batch_correlation` is the correlation of the errors' normal scores among the
    passages of one question. `decile_misses` adds misses where the rule fires weakly: that chance in the lowest tenth
    of its strengths, none in the highest, linear in between. `malformed` and `refused` are the shares of replies that
    hold no answer and that refuse one. `seed` makes another judge of the same kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    concepts: Path | None = None
    false_positive: Share = 0.0
    false_negative: Share = 0.0
    latent_effect: Annotated[float, Field(ge=0)] = 0.0
    batch_correlation: Share = 0.0
    decile_misses: Share = 0.0
    malformed: Share = 0.0
    refused: Share = 0.0
    seed: int = 0

    @model_validator(mode="after")
    def _leave_answers(self) -> TruthSettings:
        if self.malformed + self.refused > 1:
            raise ValueError("malformed + refused is more than 1")
        return self


class TruthClient:
    """Answers the typed question of a request; the messages are not read.

    Raises:
        CoderError: the concepts file is missing or wrong.
    """

    def __init__(self, model: str, settings: TruthSettings) -> None:
        self.name = f"truth/{model}"
        self._model = model
        self._settings = settings
        loaded = rules.load_concepts(settings.concepts or resources.fixture("concepts.json"))
        self._revision = loaded.revision
        revision = f"{_VERSION}-{loaded.revision}"
        self.capabilities = Capabilities(logprobs=False, temperature=False, model_free=True, revision=revision)
        # one rule for all judges, so that what it says of a window is found out once
        self._known = {sentence: rule_of(concept.rule) for concept in loaded.concepts for sentence in concept.sentences}

    def wire(self, request: Request) -> Wire:
        """A hash of the question, with all that decides the answer to it."""
        return Wire.of(
            {
                "provider": "truth",
                "version": _VERSION,
                "model": self._model,
                "settings": self._settings.model_dump(mode="json", exclude={"concepts"}),
                "concepts": self._revision,
                "question": self._question(request).digest(),
            }
        )

    async def generate(self, request: Request) -> Reply:
        """Judge the passages.

        Raises:
            BadRequest: the request carries no question, or one that it has no answer to.
        """
        question = self._question(request)
        # a context of a thousand tokens takes a millisecond or two: not on the event loop
        return await anyio.to_thread.run_sync(partial(self._reply, question, request.sample))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _question(self, request: Request) -> _Asked:
        question = answerable(request, self.name)
        if isinstance(question, Explain | Rises):
            raise BadRequest(
                f"{self.name} judges explanations and writes none; explain with another model", model=self.name
            )
        return question

    def _reply(self, question: _Asked, sample: int) -> Reply:
        settings = self._settings
        whole = question.digest()
        fate = self._even("fate", whole, *([sample] if sample else []))
        if fate < settings.refused:
            return Reply(_REFUSAL, "refusal", USAGE, model=self.name)
        if fate < settings.refused + settings.malformed:
            return Reply(_MALFORMED[seed_of(whole) % len(_MALFORMED)], "stop", USAGE, model=self.name)
        draw = [sample] if sample else []
        answer = (
            self._texts(question, sample) if isinstance(question, Generate) else self._answer(question, whole, draw)
        )
        if answer is None:
            return Reply(_UNKNOWN, "stop", USAGE, model=self.name)
        return Reply(as_text(answer, question), "stop", USAGE, model=self.name)

    def _texts(self, question: Generate, sample: int) -> Texts | None:
        """Stretches of text that have the concept or not; where it errs on one, one of the other kind."""
        told, count = question.explanation, question.count
        shelf = library(resources.fixture("text", "heldout.jsonl"))
        draw = Random(seed_of(self._model, self._settings.seed, question.digest(), sample))
        if told is None:
            return Texts(tuple(draw.sample(shelf.stretches, count)))
        rule = self._resolve(told)
        if rule is None:
            return None
        strengths = dict(zip(shelf.stretches, shelf.strengths(rule).tolist(), strict=True))
        silent = [text for text, strength in strengths.items() if not strength]
        if len(silent) == len(strengths):
            # too rare for the text at hand
            phrases = spelled(rule.data)
            made = [put_in(draw.choice(silent), draw.choice(phrases), rule, draw) for _ in range(count) if phrases]
            strengths |= {text: peak(rule, text) for text in made}
        firing = [text for text, strength in strengths.items() if strength]
        if not firing or not silent:
            return None
        shift = self._shift(told)
        texts = []
        for wanted, other in zip(_some(firing, count, draw), _some(silent, count, draw), strict=True):
            wanted, other = (wanted, other) if question.activating else (other, wanted)
            rate = self._error_rate(rule, strengths[wanted], shift)
            wrong = self._even("error", question.name, told.identity(), wanted) < rate
            texts.append(other if wrong else wanted)
        return Texts(tuple(texts))

    def _answer(
        self, question: Detect | Fuzz | Simulate | Intruder | Steered, whole: str, draw: Sequence[int]
    ) -> Answer | None:
        """The answer, or None where the explanation is not known; another `draw` errs elsewhere, but on steering."""
        if isinstance(question, Simulate):
            return self._simulated(question, draw)
        if isinstance(question, Intruder):
            return self._chosen(question, whole, draw)
        if isinstance(question, Steered):
            return self._amplified(question, whole)
        labels = self._labels(question, whole, draw)
        return None if labels is None else Judgement(labels, (None,) * len(labels))

    def _simulated(self, question: Simulate, draw: Sequence[int]) -> Simulation | None:
        """The rule's strengths; where it errs on a passage, a silent one gets a strength and a firing one none."""
        told, passage = question.explanation, question.passage
        largest, count = question.largest, len(question.passage.tokens)
        if told is None:
            coins = [self._even("coin", question.name, passage.identity(), at, *draw) for at in range(count)]
            return Simulation(tuple(float(largest * (coin < 0.5)) for coin in coins))
        rule = self._resolve(told)
        if rule is None:
            return None
        strengths = _strengths(rule, passage)
        shift = self._shift(told)
        rate = self._error_rate(rule, float(strengths.max(initial=0.0)), shift)
        if self._even("error", question.name, told.identity(), passage.identity(), *draw) >= rate:
            return Simulation(token_strengths(strengths, largest))
        wrong = [0.0] * count
        if not strengths.any() and count:
            wrong[int(count * self._even("where", told.identity(), passage.identity(), *draw))] = float(largest)
        return Simulation(tuple(wrong))

    def _chosen(self, question: Intruder, whole: str, draw: Sequence[int]) -> Choice:
        """The passage without the concept that the others share; errors, at the rate of false positives, name another.

        Where several could be it, or none, the one is taken that most concepts agree on, and a coin decides ties.
        """
        passages = question.passages
        fires = np.array(
            [[bool(_strengths(rule, passage).any()) for passage in passages] for rule in self._known.values()], bool
        )
        lone = fires[fires.sum(axis=1) == len(passages) - 1] if len(fires) else fires
        votes = (~lone).sum(axis=0) if len(lone) else np.zeros(len(passages))
        best = np.flatnonzero(votes == votes.max())
        at = int(best[int(len(best) * self._even("tie", whole))])
        if self._even("error", question.name, whole, *draw) < self._settings.false_positive:
            others = [other for other in range(len(passages)) if other != at]
            at = others[int(len(others) * self._even("other", whole, *draw))]
        return Choice(at + 1)

    def _amplified(self, question: Steered, whole: str) -> Choice | None:
        """The passage that holds more of the rule, a coin where both hold as much; errs as on false positives."""
        told = question.explanation
        coin = int(self._even("coin", whole) < 0.5)
        if told is None:
            return Choice(coin + 1)
        rule = self._resolve(told)
        if rule is None:
            return None
        first, second = (held(rule, passage) for passage in question.passages)
        at = coin if first == second else int(second > first)
        rate = _shifted(self._settings.false_positive, self._shift(told))
        return Choice((1 - at if self._even("error", question.name, whole) < rate else at) + 1)

    def _labels(self, question: Detect | Fuzz, whole: str, draw: Sequence[int]) -> tuple[int, ...] | None:
        """A label a passage, or None where the explanation is not known."""
        told = question.explanation
        if told is None:
            coins = (self._even("coin", question.name, passage.identity(), *draw) for passage in question.passages)
            return tuple(int(coin < 0.5) for coin in coins)
        rule = self._resolve(told)
        if rule is None:
            return None
        shift = self._shift(told)
        together = _NORMAL.inv_cdf(self._even("batch", whole, *draw))
        labels: list[int] = []
        for passage in question.passages:
            strength = _strength(rule, passage, marked=isinstance(question, Fuzz))
            own = _NORMAL.inv_cdf(self._even("error", question.name, told.identity(), passage.identity(), *draw))
            mixing = self._settings.batch_correlation
            score = _NORMAL.cdf(math.sqrt(mixing) * together + math.sqrt(1 - mixing) * own)
            wrong = score < self._error_rate(rule, strength, shift)
            labels.append(int((strength > 0) != wrong))
        return tuple(labels)

    def _resolve(self, told: Explanation) -> rules.Rule | None:
        """The rule that the explanation carries, else the one that its sentence is registered for."""
        if told.rule is None:
            return self._known.get(told.text.strip())
        try:
            return rule_of(told.rule)
        except ValueError:
            return None

    def _shift(self, told: Explanation) -> float:
        """An explanation's own effect on the error rates, in logits."""
        effect = self._settings.latent_effect
        return effect * _NORMAL.inv_cdf(self._even("latent", told.identity())) if effect else 0.0

    def _error_rate(self, rule: rules.Rule, strength: float, shift: float) -> float:
        settings = self._settings
        if strength <= 0:
            return _shifted(settings.false_positive, shift)
        decile = min(9, int(10 * rule.ranks(np.array([strength], dtype=np.float32))[0]))
        weak = settings.decile_misses * (9 - decile) / 9
        return 1 - (1 - _shifted(settings.false_negative, shift)) * (1 - weak)

    def _even(self, *parts: Any) -> float:
        """A number in (0, 1), even over whatever is hashed."""
        hashed = seed_of(self._model, self._settings.seed, json.dumps(parts, ensure_ascii=False))
        return ((hashed >> 11) + 0.5) / 2.0**53


class TruthProvider:
    """Makes clients `truth/<any name>`: judges with the truth, told apart by their names."""

    Settings = TruthSettings

    @classmethod
    def connect(cls, model: str, settings: TruthSettings) -> TruthClient:
        """The judge of that name.

        Raises:
            CoderError: the concepts file is missing or wrong.
        """
        return TruthClient(model, settings)


_Asked = Detect | Fuzz | Simulate | Intruder | Generate | Steered


@lru_cache(maxsize=512)
def _text(pieces: tuple[str, ...]) -> rules.Text:
    """The prepared context: the same window is judged by many rules."""
    return rules.Text(pieces)


def _strength(rule: rules.Rule, passage: Passage, *, marked: bool) -> float:
    """How strongly the rule holds: its largest strength in the window, or its smallest on the marks."""
    strengths = _strengths(rule, passage)
    if marked:
        return float(strengths[list(passage.marks)].min()) if passage.marks else 0.0
    return float(strengths.max(initial=0.0))


def _strengths(rule: rules.Rule, passage: Passage) -> NDArray[np.float32]:
    """The rule's strength on each token of a window, `[positions]`, what stands before it seen; not to be written to.

    Judges of other error rates, and scorers that mark other tokens, ask for the same.
    """
    return _strengths_on(rule, replace(passage, marks=()) if passage.marks else passage)


@lru_cache(maxsize=4096)
def _strengths_on(rule: rules.Rule, passage: Passage) -> NDArray[np.float32]:
    before = passage.preceding()
    strengths = rule.strengths(_text((*before, *passage.tokens)))[len(before) :]
    strengths.setflags(write=False)
    return strengths


def _some(texts: Sequence[str], count: int, draw: Random) -> list[str]:
    """So many of the texts at random; each again only where there are fewer."""
    chosen = draw.sample(texts, min(count, len(texts)))
    return [chosen[at % len(chosen)] for at in range(count)]


def _shifted(rate: float, shift: float) -> float:
    """The rate with its logit shifted; 0 stays 0."""
    return rate if rate == 0 else 1 / (1 + (1 - rate) / rate * math.exp(-shift))
