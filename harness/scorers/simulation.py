"""Simulation: how strongly does the latent respond to each token, as told by the explanation? (paper section 6)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from harness.clients.ask import ask, ask_once
from harness.clients.models import Models
from harness.clients.protocol import Reply, Request
from harness.clients.wants import Want
from harness.errors import TaskError
from harness.metrics.simulation import simulation
from harness.questions.kinds import Simulate, Simulation
from harness.questions.prompts import load_variant
from harness.questions.simulating import LEAD, UNKNOWN, digit_masses, expectation, lines, masses_at
from harness.questions.strength import STRONGEST, levels
from harness.scorers.asking import paid, together
from harness.scorers.base import Scored, Scorer
from harness.scorers.verdicts import Verdicts
from harness.values import Explanation, Failure, FailureStatus, ScoredSet, Usage

__all__ = ["SimulationScorer"]

Mode = Literal["all-at-once", "token-by-token", "list"]
_REPLIES = {"all-at-once": "strength-lines", "token-by-token": "strength-lines", "list": "strengths"}
_PROMPTS = {"all-at-once": "lines", "token-by-token": "lines", "list": "default"}
# which capability a mode cannot do without
_NEEDS: dict[str, Literal["logprobs", "prompt_logprobs"]] = {
    "all-at-once": "prompt_logprobs",
    "token-by-token": "logprobs",
}


@dataclass(frozen=True, slots=True)
class _Simulated:
    """A passage's strengths or why there are none, on what replies they rest and what these cost."""

    answer: Simulation | Failure
    mass: float = np.nan
    replies: tuple[str, ...] = ()
    usage: Usage = Usage()


# what strengths are written as
_NUMBERS = tuple(str(number) for number in range(STRONGEST + 1))


class SimulationScorer(Scorer):
    """Asks for the strength of each token of plain passages and correlates the answers with the true strengths."""

    metric = "pearson"

    class Settings(BaseModel):
        """Keys of a `[[scorer]]` of kind `simulation`.

        `mode` is how strengths are asked for: `list` takes them from a reply, the others from logprobs. `digit_mass` is
        the least probability of numbers, on average over a passage's tokens, for it not to be a failure. `largest` is
        the largest strength, 9 where the model's tokenizer cuts "10"; left out, that is found out by asking where the
        model gives logprobs of given text, else it is 10. `alternatives` is the most that are asked for at each token,
        fewer where the model gives fewer.
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        model: str
        mode: Mode = "list"
        prompt: str | None = None
        digit_mass: Annotated[float, Field(ge=0, le=1)] = 0.5
        largest: Literal[9, 10] | None = None
        alternatives: Annotated[int, Field(ge=11)] = 100

    def __init__(self, settings: SimulationScorer.Settings, models: Models, base: Path) -> None:
        self._settings = settings
        self._client = models.client(settings.model)
        self._variant = load_variant("simulate", settings.prompt or _PROMPTS[settings.mode], base)
        if self._variant.reply != _REPLIES[settings.mode]:
            raise TaskError(
                f'prompt: "{self._variant.name}" has the reply format "{self._variant.reply}", and mode '
                f'"{settings.mode}" needs one with "{_REPLIES[settings.mode]}"'
            )
        if settings.mode != "list" and self._client.capabilities.model_free:
            raise TaskError(f'mode: {settings.model} has no language model to ask for logprobs: take "list"')
        self.models = (settings.model,)
        self.prompt = self._variant.name
        if (need := _NEEDS.get(settings.mode)) is not None:
            cure = 'take a model that gives them, or mode = "list"'
            self.wants = (Want("simulate", settings.model, need, needed=True, cure=cure),)
        options = settings.model_dump(mode="json", exclude={"model", "prompt"})
        self.identity = {
            "kind": "simulation",
            "question": "simulate",
            "model": models.identity(settings.model),
            "prompt": self._variant.digest,
            **({"mode": "list"} if settings.mode == "list" else options),
        }

    async def score(self, explanation: Explanation | None, examples: ScoredSet, seed: int) -> Scored:
        """Simulate every passage of one rung's examples."""
        largest, scale = await self._scale()
        one = {"list": self._list, "all-at-once": self._at_once, "token-by-token": self._by_token}[self._settings.mode]
        asked = [Simulate(explanation, example.passage, largest) for example in examples.examples]
        found = await together([partial(one, question, seed) for question in asked])
        predicted, actual = _strengths(examples, found, largest)
        failures: list[FailureStatus | None] = [
            each.answer.status if isinstance(each.answer, Failure) else None for each in found
        ]
        verdicts = Verdicts.of(examples.examples, failures=failures, predicted=predicted, actual=actual)
        figures = simulation(verdicts.predicted, verdicts.actual, verdicts.quantile)
        masses = [each.mass for each in found if not np.isnan(each.mass)]
        figures |= {"largest": largest, "digit_mass": float(np.mean(masses)) if masses else None}
        return Scored(verdicts, figures, *paid([scale, *found]))

    async def _scale(self) -> tuple[int, _Simulated]:
        """The largest strength, and what finding out cost: whether the model reads "10" as one token."""
        nothing = _Simulated(Simulation(()))
        can = self._client.capabilities.prompt_logprobs
        if self._settings.largest is not None or self._settings.mode == "list" or not can:
            return self._settings.largest or STRONGEST, nothing
        reply, keys = await ask_once(self._client, Request((), 0, top_logprobs=1, continuation=f"{UNKNOWN}\t10"))
        if isinstance(reply, Failure):
            return STRONGEST, nothing
        whole = any(item.token.strip() == "10" for item in reply.logprobs or ())
        return STRONGEST if whole else STRONGEST - 1, replace(nothing, replies=keys, usage=reply.usage)

    async def _list(self, question: Simulate, seed: int) -> _Simulated:
        asked = await ask(self._client, self._variant, question, seed=seed)
        if not isinstance(asked.answer, Simulation | Failure):
            raise TypeError("a simulation was answered with something else")
        return _Simulated(asked.answer, replies=asked.replies, usage=asked.usage)

    async def _at_once(self, question: Simulate, seed: int) -> _Simulated:  # noqa: ARG002 - nothing is drawn
        tokens = question.passage.tokens
        text, starts = lines(tokens, [UNKNOWN] * len(tokens))
        given = LEAD + text
        messages = self._variant.render(question).messages
        request = Request(messages, 0, top_logprobs=self._top(), continuation=given, among=_NUMBERS)
        reply, keys = await ask_once(self._client, request)
        if isinstance(reply, Failure):
            return _Simulated(reply, replies=keys)
        places = [start + len(LEAD) for start in starts]
        masses = masses_at(given, places, reply.logprobs or (), question.largest)
        if masses is None:
            answer = Failure("unparsable", "the tokens of the prompt's logprobs do not spell what was sent")
            return _Simulated(answer, replies=keys, usage=reply.usage)
        return self._judged(masses, keys, reply.usage)

    async def _by_token(self, question: Simulate, seed: int) -> _Simulated:
        rendered = self._variant.render(question).messages
        masses: list[dict[int, float]] = []
        keys: list[str] = []
        usage, said = Usage(), list[object]()
        for _ in question.passage.tokens:
            content = rendered[-1].content + LEAD + lines(question.passage.tokens, said)[0]
            messages = (*rendered[:-1], replace(rendered[-1], content=content))
            reply, own = await ask_once(self._client, self._request(messages, seed))
            keys += own
            if isinstance(reply, Failure):
                return _Simulated(reply, replies=tuple(keys), usage=usage)
            usage += reply.usage
            masses.append(_first_masses(reply, question.largest))
            # what greedy decoding would have written
            said.append(max(masses[-1], key=masses[-1].__getitem__) if masses[-1] else UNKNOWN)
        return self._judged(masses, tuple(keys), usage)

    def _request(self, messages: Any, seed: int) -> Request:
        can = self._client.capabilities
        return Request(
            messages,
            self._variant.max_tokens,
            temperature=self._variant.temperature if can.temperature else None,
            top_logprobs=self._top(),
            seed=seed if can.seed else None,
        )

    def _top(self) -> int:
        return min(self._settings.alternatives, self._client.capabilities.top_logprobs)

    def _judged(self, masses: Sequence[dict[int, float]], keys: tuple[str, ...], usage: Usage) -> _Simulated:
        mass = float(np.mean([sum(each.values()) for each in masses])) if masses else 0.0
        if mass < self._settings.digit_mass or not any(masses):
            message = f"numbers have {mass:.2g} of the probability where {self._settings.digit_mass:g} is needed"
            return _Simulated(Failure("unparsable", message), mass, keys, usage)
        return _Simulated(Simulation(tuple(expectation(each) for each in masses)), mass, keys, usage)


def _first_masses(reply: Reply, largest: int) -> dict[int, float]:
    """The masses of numbers where the reply begins, after blank tokens."""
    for item in reply.logprobs or ():
        masses = digit_masses(item.top, largest)
        if masses or item.token.strip():
            return masses
    return {}


def _strengths(
    examples: ScoredSet, found: Sequence[_Simulated], largest: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted and actual strengths `[examples, positions]`, NaN where there are none and in what failed."""
    longest = max((len(example.passage.tokens) for example in examples.examples), default=0)
    predicted, actual = (np.full((len(examples.examples), longest), np.nan) for _ in range(2))
    for row, (example, each) in enumerate(zip(examples.examples, found, strict=True)):
        count = len(example.passage.tokens)
        true = levels(example.activations, examples.maximum) if example.activating else np.zeros(count)
        actual[row, :count] = np.minimum(true, largest)
        if isinstance(each.answer, Simulation):
            predicted[row, :count] = each.answer.strengths
    return predicted, actual
