"""Does text written under an intervention speak for an explanation? Told by logprobs, or by a judge of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from harness.clients.ask import ask
from harness.clients.models import Models
from harness.clients.wants import Want
from harness.questions.kinds import Amplified, Choice, Steered
from harness.questions.messages import Message
from harness.questions.prompts import load_variant
from harness.scorers.asking import paid, together
from harness.scorers.likelihood import difference, followed, likelihood, wanted
from harness.values import Explanation, Failure, Pair, Passage, Usage, seed_of

__all__ = ["ByJudge", "ByLogprobs", "Mode", "Speaking", "Told", "speaking"]

Mode = Literal["logprobs", "judge"]

# stands between the question and the explanation, whose closing quote is scored with it
_LEAD = '\n\n"'


@dataclass(frozen=True, slots=True)
class Told:
    """What was told of each pair, `[pairs]`.

    By logprobs `values` are nats; by a judge they are the probability of the right passage, 1 or 0 where the reply
    tells none, and `second` says whether that was the second one shown.
    """

    values: tuple[float | Failure, ...]
    second: tuple[bool, ...] = ()
    chosen: tuple[int, ...] = ()
    replies: tuple[str, ...] = ()
    usage: Usage = Usage()


class Speaking(Protocol):
    """A way to ask whether pairs of continuations speak for an explanation.

    `wants` are what it wants of its model, `prompt` its variant's name, `identity` a JSON-able value of what decides
    what is told beside explanation and pairs.
    """

    prompt: str
    wants: tuple[Want, ...]
    identity: Mapping[str, Any]

    async def tell(self, explanation: Explanation | None, pairs: Sequence[Pair], seed: int) -> Told:
        """What each pair says of an explanation, None where it is withheld; random choices follow `seed`."""
        ...


class ByLogprobs:
    """By how much an explanation's probability rises with the intervention (equation 1 of the paper, section 3.3.5).

    Of each pair it is log p(explanation | prompt and intervened continuation) - log p(explanation | prompt and clean
    continuation), each the sum over the explanation's tokens and its closing quote after the prompt variant's few-shot
    blocks. With the explanation withheld every value is 0, and nothing is asked.
    """

    def __init__(self, who: str, model: str, prompt: str, models: Models, base: Path) -> None:
        self._client = models.client(model)
        self._variant = load_variant("amplified", prompt, base)
        self.prompt = self._variant.name
        self.wants = (wanted(who, model),)
        self.identity: Mapping[str, Any] = {
            "question": "amplified",
            "model": models.identity(model),
            "prompt": self._variant.digest,
        }

    async def tell(self, explanation: Explanation | None, pairs: Sequence[Pair], seed: int) -> Told:  # noqa: ARG002 - nothing is drawn
        """Nats, one for each pair."""
        if explanation is None:
            return Told((0.0,) * len(pairs))
        texts = [text for pair in pairs for text in (pair.steered, pair.clean)]
        prompts = [pair.prompt for pair in pairs for _ in range(2)]
        asked = [Amplified(Passage((prompt, text))) for prompt, text in zip(prompts, texts, strict=True)]
        words = [self._variant.format(explanation, each).removeprefix('"') for each in asked]
        prefixes = [self._prefix(each) for each in asked]
        found = await together(
            [partial(likelihood, self._client, prefix, text) for prefix, text in zip(prefixes, words, strict=True)]
        )
        values = tuple(difference(found[at], found[at + 1]) for at in range(0, len(found), 2))
        return Told(values, (), (), *paid(found))

    def _prefix(self, question: Amplified) -> tuple[Message, ...]:
        return followed(self._variant.render(question).messages, _LEAD)


class ByJudge:
    """By a judge who sees both continuations and says which was amplified; no probability of given text is needed.

    Half of the pairs show the intervened continuation second, so that a judge who goes by the place is right half the
    time. Which do depends on the seed alone.
    """

    def __init__(self, who: str, model: str, prompt: str, models: Models, base: Path) -> None:
        self._client = models.client(model)
        self._variant = load_variant("steered", prompt, base)
        self.prompt = self._variant.name
        without = "choices without probabilities"
        self.wants = (Want(who, model, "logprobs", without=without),) if self._variant.logprobs else ()
        self.identity: Mapping[str, Any] = {
            "question": "steered",
            "model": models.identity(model),
            "prompt": self._variant.digest,
        }

    async def tell(self, explanation: Explanation | None, pairs: Sequence[Pair], seed: int) -> Told:
        """The probability of the right passage, one for each pair."""
        second = _order(len(pairs), seed)
        asked = [Steered(explanation, _shown(pair, last)) for pair, last in zip(pairs, second, strict=True)]
        answers = await together([partial(ask, self._client, self._variant, each, seed=seed) for each in asked])
        values: list[float | Failure] = []
        chosen: list[int] = []
        for last, answer in zip(second, answers, strict=True):
            match answer.answer:
                case Choice(number, probabilities):
                    values.append(float((number == 2) == last) if probabilities is None else probabilities[int(last)])
                    chosen.append(number)
                case Failure() as failure:
                    values.append(failure)
                    chosen.append(0)
                case _:
                    raise TypeError("a judge of two passages was answered with something else")
        return Told(tuple(values), second, tuple(chosen), *paid(answers))


def speaking(mode: Mode, who: str, model: str, prompt: str, models: Models, base: Path) -> Speaking:
    """The way of a mode, for a scorer or explainer of that name.

    Raises:
        UserError: the model or the prompt is wrong.
    """
    return {"logprobs": ByLogprobs, "judge": ByJudge}[mode](who, model, prompt, models, base)


def _order(count: int, seed: int) -> tuple[bool, ...]:
    """Which of so many pairs show the intervened continuation second: half of them, and an odd one by chance."""
    draws = np.random.Generator(np.random.PCG64(seed_of(seed, "steered")))
    half = np.arange(count) < (count + int(draws.integers(2))) // 2
    return tuple(draws.permutation(half).tolist())


def _shown(pair: Pair, last: bool) -> tuple[Passage, Passage]:  # noqa: FBT001 - the one thing that it decides
    clean, steered = (Passage((pair.prompt, text), (1,)) for text in (pair.clean, pair.steered))
    return (clean, steered) if last else (steered, clean)
