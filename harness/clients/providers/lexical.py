"""`lexical/rules`: a baseline that explains and judges without a language model, by rules over tokens.

Explaining, it induces a rule from all windows shown, silent ones too (see `_induction`), and writes it as a sentence,
with the rule itself in a `[rule]:` line; of tokens that an intervention made likelier it quotes those that rose most.
Judging, it evaluates an explanation's rule on the window's tokens alone: in detection the rule has to fire anywhere, in
fuzzing on every marked token; simulating, its strength on each token is told. An intruder is the passage that shares
fewest words with the others, an amplified passage that which holds more of what the explanation says. An explanation
without a rule is judged by the words it shares with the passage (see `_overlap`), a withheld one by a coin that falls
the same way for the same passage. Texts are plain sentences with what the rule spells out, or what the explanation
quotes or says, put in or taken out; the same ones for every latent where the explanation is withheld.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import anyio.lowlevel
from pydantic import BaseModel, ConfigDict

from harness import rules
from harness.clients.protocol import Capabilities, Reply, Request
from harness.clients.providers._induction import induce
from harness.clients.providers._overlap import overlap, telling
from harness.clients.providers._simulating import odd_one, token_strengths
from harness.clients.providers._steering import chances, described, held, mentions
from harness.clients.providers._typed import USAGE, Answerable, answerable, rule_of
from harness.clients.providers._writing import from_phrases, spelled
from harness.clients.wire import Wire
from harness.errors import BadRequest, TaskError
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
from harness.values import Explanation, Passage, TokenLogprob, seed_of

__all__ = ["LexicalClient", "LexicalProvider", "LexicalSettings"]

_VERSION = 1  # raise it when the same question gets another answer


class LexicalSettings(BaseModel):
    """The lexical baseline has no settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LexicalClient:
    """Answers the typed question of a request; the messages are not read."""

    capabilities = Capabilities(logprobs=True, temperature=False, model_free=True, revision=str(_VERSION))

    def __init__(self, model: str) -> None:
        self.name = f"lexical/{model}"
        self._model = model

    def wire(self, request: Request) -> Wire:
        """A hash of the question, this client's version, and whether logprobs are wanted."""
        question = answerable(request, self.name)
        return Wire.of(
            {
                "provider": "lexical",
                "version": _VERSION,
                "model": self._model,
                "question": question.digest(),
                "logprobs": request.top_logprobs is not None,
            }
        )

    async def generate(self, request: Request) -> Reply:
        """Answer at once.

        Raises:
            BadRequest: the request carries no question, or its explanation a rule that is none.
        """
        await anyio.lowlevel.checkpoint()
        question = answerable(request, self.name)
        if isinstance(question, Explain | Rises):
            return self._said(question, _explained(question))
        if isinstance(question, Steered):
            return self._chosen(question, logprobs=request.top_logprobs is not None)
        untold = None if request.top_logprobs is None else ()
        if isinstance(question, Intruder):
            return self._said(question, Choice(odd_one(question.passages) + 1), untold)
        if isinstance(question, Simulate):
            return self._said(question, Simulation(self._strengths(question)), untold)
        if isinstance(question, Generate):
            return self._said(question, self._texts(question, request.sample), untold)
        chances = self._chances(question)
        labels = tuple(int(chance > 0.5) for chance in chances)
        if question.explanation is None:
            labels = tuple(_coin(passage) for passage in question.passages)
        reply = self._said(question, Judgement(labels, (None,) * len(labels)))
        return reply if request.top_logprobs is None else replace(reply, logprobs=_logprobs(reply.text, chances))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _said(self, question: Answerable, answer: Answer, logprobs: Sequence[TokenLogprob] | None = None) -> Reply:
        return Reply(as_text(answer, question), "stop", USAGE, logprobs, model=self.name)

    def _chances(self, question: Detect | Fuzz) -> list[float]:
        """For each passage the probability of 1."""
        told, marked = question.explanation, isinstance(question, Fuzz)
        if told is None:
            return [0.5] * len(question.passages)
        if told.rule is None:
            return overlap(told.text, question.passages, marked=marked)
        rule = self._rule(told.rule)
        return [float(_holds(rule, passage, marked=marked)) for passage in question.passages]

    def _chosen(self, question: Steered, *, logprobs: bool) -> Reply:
        """The passage that holds more of it; a coin where both hold as much, or nobody says of what."""
        told = question.explanation
        if told is None:
            amounts = [0.0, 0.0]
        elif told.rule is None:
            amounts = [mentions(told.text, passage) for passage in question.passages]
        else:
            amounts = [held(self._rule(told.rule), passage) for passage in question.passages]
        found = chances(amounts).tolist()
        coin = seed_of("coin", *(passage.text for passage in question.passages)) % 2
        chosen = coin if found[0] == found[1] else int(found[1] > found[0])
        top = tuple((str(number), math.log(chance)) for number, chance in enumerate(found, 1))
        told_by = [TokenLogprob(str(chosen + 1), top[chosen][1], top)] if logprobs else None
        return self._said(question, Choice(chosen + 1), told_by)

    def _strengths(self, question: Simulate) -> tuple[float, ...]:
        """The rule's strength on each token; of words without a rule, the largest where a token is one of them."""
        tokens, told = question.passage.tokens, question.explanation
        if told is None:
            return tuple(float(_coin(Passage((token,))) * question.largest) for token in tokens)
        if told.rule is None:
            chances = overlap(told.text, [Passage((token,)) for token in tokens], marked=False)
            return tuple(float(question.largest * (chance > 0.5)) for chance in chances)
        return token_strengths(self._rule(told.rule).strengths(tokens), question.largest)

    def _texts(self, question: Generate, sample: int) -> Texts:
        told = question.explanation
        rule = None if told is None or told.rule is None else self._rule(told.rule)
        phrases = [] if told is None else telling(told.text) if rule is None else spelled(rule.data)
        draw = Random(seed_of("texts", question.digest(), sample))
        made = (from_phrases(phrases, rule, draw, activating=question.activating) for _ in range(question.count))
        return Texts(tuple(made))

    def _rule(self, data: Mapping[str, Any]) -> rules.Rule:
        try:
            return rule_of(data)
        except ValueError as error:
            raise BadRequest(f"{self.name} cannot judge by the explanation's rule: {error}", model=self.name) from error


class LexicalProvider:
    """Makes the client `lexical/rules`."""

    Settings = LexicalSettings

    @classmethod
    def connect(cls, model: str, settings: LexicalSettings) -> LexicalClient:  # noqa: ARG003 - there are none
        """The client of a model's name.

        Raises:
            TaskError: there is no such model.
        """
        if model != "rules":
            raise TaskError(f'there is no model "lexical/{model}"; the lexical baseline is "lexical/rules"')
        return LexicalClient(model)


def _explained(question: Explain | Rises) -> Explanation:
    if isinstance(question, Rises):
        words = described(question.rises)
    else:
        tried = () if question.tried is None else (*question.tried.missed, *question.tried.taken)
        found = induce((*question.examples, *question.silent, *tried))
        words = None if found is None else found.explanation()
    return Explanation("nothing that the tokens shown have in common") if words is None else words


def _holds(rule: rules.Rule, passage: Passage, *, marked: bool) -> bool:
    fires = rule.fires(passage.tokens)
    if marked:
        return bool(passage.marks) and bool(fires[list(passage.marks)].all())
    return bool(fires.any())


def _coin(passage: Passage) -> int:
    return seed_of("coin", passage.text, *passage.marks) % 2


def _logprobs(text: str, chances: Sequence[float]) -> list[TokenLogprob]:
    """The reply cut into tokens, with both labels as alternatives wherever one stands."""
    left = iter(chances)
    tokens: list[TokenLogprob] = []
    for character in text:
        if character not in "01":
            tokens.append(TokenLogprob(character, 0.0))
            continue
        chance = next(left)
        top = [(label, math.log(mass)) for label, mass in (("0", 1 - chance), ("1", chance)) if mass > 0]
        top.sort(key=lambda pair: -pair[1])
        tokens.append(TokenLogprob(character, dict(top)[character], tuple(top)))
    return tokens
