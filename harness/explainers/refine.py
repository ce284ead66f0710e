"""Refining: a model is shown what its last explanation got wrong on the `select` split, a few rounds long."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harness.clients.ask import ask
from harness.clients.models import Models
from harness.clients.sampling import sampled_within
from harness.examples.draw import LatentExamples
from harness.explainers.base import Explained, Refers
from harness.explainers.best_of import chosen, noted
from harness.explainers.contexts import variant_showing
from harness.explainers.parts import Composed, Judged, Part, Selecting, made_explainer
from harness.questions.kinds import Explain, Tried
from harness.questions.strength import Rounding
from harness.scorers.asking import paid
from harness.values import Example, Explanation, Failure, seed_of

__all__ = ["Refine", "RefineSettings"]


class RefineSettings(BaseModel):
    """Keys of an `[[explainer]]` of kind `refine`.

    `explainer` writes the first explanation. `model` then improves it by the prompt variant `prompt`, in at most
    `rounds` rounds: it is shown at most `mistakes` windows of either kind that `scorer` got wrong by the last one.
    Explainer and scorer are tables such as `[[explainer]]` and `[[scorer]]` hold, or names of those in the task.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    explainer: Part
    scorer: Part
    model: str
    prompt: str = "refine"
    strengths: Rounding = "floor"
    rounds: Annotated[int, Field(ge=1, le=10)] = 2
    mistakes: Annotated[int, Field(ge=1)] = 5


class Refine(Composed):
    """Keeps the explanation of the round that scores highest on the `select` windows, the earliest of equals."""

    Settings: ClassVar[type[BaseModel]] = RefineSettings
    refers: ClassVar[Refers] = {"explainer": "explainer", "scorer": "scorer"}

    def __init__(self, settings: RefineSettings, models: Models, base: Path) -> None:
        self._first = made_explainer(settings.explainer, models, base, "explainer")
        self._selecting = Selecting(settings.scorer, models, base)
        self._client = models.client(settings.model)
        self._variant = variant_showing(settings.prompt, base, "tried", "refine")
        self._settings = settings
        super().__init__([self._first], [self._selecting.scorer])
        self.models = tuple(dict.fromkeys((*self.models, settings.model)))
        self.identity = {
            "kind": "refine",
            "explainer": settings.explainer.identity(self._first),
            "scorer": self._selecting.identity,
            "model": models.identity(settings.model),
            "prompt": self._variant.digest,
            "strengths": settings.strengths,
            "rounds": settings.rounds,
            "mistakes": settings.mistakes,
        }

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:
        """Explain one latent, look where that is wrong, explain it again; a round that fails is the last one."""
        with sampled_within(self._settings.explainer.sample):
            found = [await self._first.explain(examples, seed)]
        judged: list[Judged | None] = []
        for number in range(self._settings.rounds + 1):
            last = found[-1].explanation
            if isinstance(last, Failure):
                judged.append(None)
                break
            judged.append(await self._selecting.judge(last, examples, seed))
            wrong = judged[-1]
            if number == self._settings.rounds or wrong is None or not (wrong.missed or wrong.taken):
                break
            found.append(await self._again(last, wrong, examples, seed_of(seed, "refine", number)))
        values = [None if one is None else one.value for one in judged]
        best = chosen(found, values)
        scores = [one.scored for one in judged if one is not None]
        notes = {
            "candidates": [noted(f"round {at}", one, values[at]) | _wrong(judged[at]) for at, one in enumerate(found)],
            "chosen": best,
            "metric": self._selecting.scorer.metric,
        }
        return Explained(found[best].explanation, *paid((*found, *scores)), notes)

    async def _again(self, last: Explanation, wrong: Judged, examples: LatentExamples, seed: int) -> Explained:
        tried = Tried(last, self._some(wrong.missed, seed), self._some(wrong.taken, seed))
        question = Explain(examples.shown, examples.maximum, self._settings.strengths, tried=tried)
        asked = await ask(self._client, self._variant, question, seed=seed)
        assert isinstance(asked.answer, Explanation | Failure)
        return Explained(asked.answer, asked.replies, asked.usage)

    def _some(self, examples: tuple[Example, ...], seed: int) -> tuple[Example, ...]:
        """As many as are shown, any of them, in their order."""
        count = min(self._settings.mistakes, len(examples))
        places = sorted(Random(seed).sample(range(len(examples)), count))
        return tuple(examples[place] for place in places)


def _wrong(judged: Judged | None) -> dict[str, Any]:
    return {} if judged is None else {"missed": len(judged.missed), "taken": len(judged.taken)}
