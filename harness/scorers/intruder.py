"""Intruder: which of five passages does not belong? No explanation is judged, but the latent itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from harness.clients.ask import ask
from harness.clients.models import Models
from harness.clients.wants import Want
from harness.examples.rungs import HARD
from harness.metrics.choice import choice
from harness.questions.kinds import Choice, Intruder
from harness.questions.prompts import load_variant
from harness.scorers.asking import paid, together
from harness.scorers.base import Scored, Scorer
from harness.scorers.verdicts import Verdicts
from harness.values import Example, Explanation, Failure, FailureStatus, ScoredSet, seed_of

__all__ = ["OPTIONS", "Intruders"]

OPTIONS = 5  # one silent passage among four of similar strength


class Intruders(Scorer):
    """Shows four windows in which the latent is active and a silent one, and asks which does not belong."""

    metric = "accuracy"
    blind = True
    chance = 1 / OPTIONS

    class Settings(BaseModel):
        """Keys of a `[[scorer]]` of kind `intruder`."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        model: str
        prompt: str = "default"

    def __init__(self, settings: Intruders.Settings, models: Models, base: Path) -> None:
        self._client = models.client(settings.model)
        self._variant = load_variant("intruder", settings.prompt, base)
        self.models = (settings.model,)
        self.prompt = self._variant.name
        if self._variant.logprobs:
            self.wants = (Want("intruder", settings.model, "logprobs", without="choices without probabilities"),)
        self.identity = {
            "kind": "intruder",
            "question": "intruder",
            "model": models.identity(settings.model),
            "prompt": self._variant.digest,
        }

    async def score(
        self,
        explanation: Explanation | None,  # noqa: ARG002 - none is judged
        examples: ScoredSet,
        seed: int,
    ) -> Scored:
        """Ask as many questions as there are silent windows and fours of activating ones."""
        asked = _questions(examples, seed)
        answers = await together(
            [
                partial(ask, self._client, self._variant, Intruder(tuple(e.passage for e in shown)), seed=seed)
                for shown, _ in asked
            ]
        )
        labels: list[int] = []
        chances: list[float | None] = []
        failures: list[FailureStatus | None] = []
        for (_, at), answer in zip(asked, answers, strict=True):
            match answer.answer:
                case Choice(number, probabilities):
                    labels.append(int(number == at + 1))
                    chances.append(None if probabilities is None else probabilities[at])
                    failures.append(None)
                case Failure(status):
                    labels.append(-1)
                    chances.append(None)
                    failures.append(status)
                case _:
                    raise TypeError("an intruder question was answered with something else")
        verdicts = Verdicts.of([shown[at] for shown, at in asked], labels, chances, failures)
        # each row is a question, and its intruder the right choice
        verdicts.truth[:] = 1
        figures = choice(verdicts.label[verdicts.answered] == 1, OPTIONS)
        return Scored(verdicts, figures, *paid(answers), tuple(shown[at] for shown, at in asked))

    def takes(self, rung: str) -> bool:
        """Whether it is asked on a rung: where silent windows are drawn plainly."""
        return rung not in HARD


def _questions(examples: ScoredSet, seed: int) -> list[tuple[list[Example], int]]:
    """Five examples a question, and at which of them, from 0, the intruder stands.

    Activating windows are taken four by four in the order of their quantiles, shuffled within each.
    """
    draws = np.random.Generator(np.random.PCG64(seed_of(seed, "intruder")))
    firing = [example for example in examples.examples if example.activating]
    silent = [example for example in examples.examples if not example.activating]
    firing = [firing[at] for at in draws.permutation(len(firing))]
    firing.sort(key=lambda example: example.quantile or 0)
    silent = [silent[at] for at in draws.permutation(len(silent))]
    questions: list[tuple[list[Example], int]] = []
    for number in range(min(len(firing) // (OPTIONS - 1), len(silent))):
        shown = firing[number * (OPTIONS - 1) : (number + 1) * (OPTIONS - 1)]
        at = int(draws.integers(OPTIONS))
        shown.insert(at, silent[number])
        questions.append((shown, at))
    return questions
