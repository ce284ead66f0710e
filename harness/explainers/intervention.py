"""The paper's intervention explainer: a model is shown which tokens a latent makes likelier (appendix A.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.clients.ask import Asked, ask
from harness.clients.models import Models
from harness.examples.draw import LatentExamples
from harness.explainers.base import Explained, Explainer
from harness.questions.kinds import Rises
from harness.questions.prompts import load_variant
from harness.scorers.amplified import Mode, Speaking, Told, speaking
from harness.scorers.asking import paid, together
from harness.subject.intervened import Intervened, Intervener, at_kl
from harness.values import Explanation, Failure, Pair, seed_of

__all__ = ["InterventionExplainer"]

Inputs = Literal["activating", "change", "unembedding"]
# what is shown without texts before it
_BARE = "tokens"


class InterventionExplainer(Explainer):
    """Asks `model` what is promoted at one KL, several times, and takes the answer that the pairs to choose by favour.

    An explanation is of a latent at a KL: each has its own. Those to choose by share no document with those that the
    scorer looks at.
    """

    needs_subject = True

    class Settings(BaseModel):
        """Keys of an `[[explainer]]` of kind `intervention`.

        `kl`, in nats, is one of `interventions.targets`. `inputs` are what is shown: for each of some texts that
        activate the latent the tokens whose probability rose most (`activating`, as in the paper); the tokens whose
        mean logit over windows of any text changed most (`change`); those that the direction itself promotes through
        the final norm and the unembedding (`unembedding`). Of `candidates` answers the one is taken that the model
        `by` favours, see `harness.scorers.amplified` for its `mode`.
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        model: str
        kl: Annotated[float, Field(gt=0)]
        prompt: str | None = None
        inputs: Inputs = "activating"
        candidates: Annotated[int, Field(ge=1, le=50)] | None = None
        by: str | None = None
        mode: Mode = "logprobs"
        by_prompt: str = "default"

        @model_validator(mode="after")
        def _chosen_by_somebody(self) -> InterventionExplainer.Settings:
            if self.by is None and (self.candidates or 1) > 1:
                raise ValueError('candidates are chosen among by a model: give by = "...", or leave candidates out')
            return self

    def __init__(self, settings: InterventionExplainer.Settings, models: Models, base: Path) -> None:
        self._client = models.client(settings.model)
        prompt = settings.prompt or ("default" if settings.inputs == "activating" else _BARE)
        self._variant = load_variant("intervention", prompt, base)
        self._inputs: Inputs = settings.inputs
        self._kl = settings.kl
        self._candidates = settings.candidates or (1 if settings.by is None else 5)
        self._by: Speaking | None = None
        self._source: Intervener | None = None
        if settings.by is not None:
            self._by = speaking(settings.mode, "intervention", settings.by, settings.by_prompt, models, base)
            self.wants = self._by.wants
        self.targets = (settings.kl,)
        self.chooses = self._by is not None
        self.models = (settings.model, *([] if settings.by is None else [settings.by]))
        self.identity: Mapping[str, Any] = {
            "kind": "intervention",
            "model": models.identity(settings.model),
            "prompt": self._variant.digest,
            "inputs": settings.inputs,
            "kl": settings.kl,
            "candidates": self._candidates,
            "by": None if self._by is None else dict(self._by.identity),
        }

    def bind_interventions(self, source: Intervener) -> None:
        """Take who changes latents."""
        self._source = source

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:
        """Explain what one latent does at the KL."""
        assert self._source is not None
        found = await self._source.intervened(examples.latent)
        if isinstance(found, Failure):
            return Explained(found)
        one = at_kl(found, self._kl)
        asked = await self._ask(Rises(_shown(one, self._inputs)), seed)
        words = [each.answer for each in asked if isinstance(each.answer, Explanation)]
        distinct = list({answer.text: answer for answer in words}.values())
        told = await self._tell(distinct, one.select, seed)
        replies, usage = paid((*asked, *told))
        if not distinct:
            failure = next(each.answer for each in asked if isinstance(each.answer, Failure))
            return Explained(failure, replies, usage, _strength(one))
        values = [_mean(each) for each in told] or [None] * len(distinct)
        best = max(range(len(distinct)), key=lambda at: -np.inf if (value := values[at]) is None else value)
        tried = [[answer.text, value] for answer, value in zip(distinct, values, strict=True)]
        return Explained(distinct[best], replies, usage, {**_strength(one), "candidates": tried})

    async def _ask(self, question: Rises, seed: int) -> list[Asked]:
        return await together(
            [
                partial(ask, self._client, self._variant, question, sample=at, seed=seed_of(seed, at) if at else seed)
                for at in range(self._candidates)
            ]
        )

    async def _tell(self, answers: Sequence[Explanation], pairs: Sequence[Pair], seed: int) -> list[Told]:
        """What the pairs say of each answer; nothing is asked where there is nothing to choose."""
        if self._by is None or len(answers) < 2 or not pairs:
            return []
        return await together([partial(self._by.tell, answer, pairs, seed) for answer in answers])


def _shown(found: Intervened, inputs: Inputs) -> tuple[Any, ...]:
    return {"activating": found.rises, "change": (found.change,), "unembedding": (found.projected,)}[inputs]


def _mean(told: Told) -> float | None:
    """The mean over the pairs that were answered, None where none was."""
    values = [value for value in told.values if not isinstance(value, Failure)]
    return float(np.mean(values)) if values else None


def _strength(found: Intervened) -> dict[str, Any]:
    told = found.calibration
    return {"target": told.target, "strength": told.strength, "status": told.status}
