"""Explainers that are made of others and of a scorer: how their parts are given, made, and asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from harness import registry
from harness.clients.models import Models
from harness.clients.sampling import MOST_SAMPLES, sampled_within
from harness.errors import TaskError
from harness.examples.draw import LatentExamples
from harness.explainers.base import Explainer
from harness.scorers.base import Scored, Scorer
from harness.subject.intervened import Intervener
from harness.validation import validated
from harness.values import Example, Explanation, ScoredSet, seed_of

__all__ = ["Composed", "Judged", "Part", "Selecting", "made_explainer"]


class Part(BaseModel):
    """An explainer or scorer inside another: a table with its `kind` and keys, or the name of one of the task's."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str
    name: str | None = None
    sample: Annotated[int, Field(ge=0, lt=MOST_SAMPLES // 2)] = 0

    def identity(self, made: Explainer | Scorer) -> dict[str, Any]:
        """A JSON-able value of what decides what it gives."""
        return {**made.identity, **({"sample": self.sample} if self.sample else {})}

    @property
    def label(self) -> str:
        """What a reader calls it."""
        return self.name or self.kind


class Composed(Explainer):
    """An explainer that asks parts; what it wants and needs is what they do."""

    def __init__(self, explainers: Sequence[Explainer], scorers: Sequence[Scorer] = ()) -> None:
        parts = (*explainers, *scorers)
        self._parts = parts
        self.models = tuple(dict.fromkeys(model for part in parts for model in part.models))
        self.wants = tuple(want for part in parts for want in part.wants)
        self.needs_subject = any(part.needs_subject for part in parts)
        self.uses_subject = any(part.uses_subject for part in explainers)
        self.targets = tuple(dict.fromkeys(target for part in explainers for target in part.targets))
        self.chooses = any(part.chooses for part in explainers)
        self.rungs = tuple(dict.fromkeys(rung for part in explainers for rung in part.rungs))

    def bind(self, subject: Any) -> None:
        """Hand the subject to the parts that ask it."""
        for part in self._parts:
            if part.needs_subject or getattr(part, "uses_subject", False):
                part.bind(subject)

    def bind_interventions(self, source: Intervener) -> None:
        """Hand who changes latents to the parts that look at that."""
        for part in self._parts:
            if part.targets:
                part.bind_interventions(source)


@dataclass(frozen=True, slots=True)
class Judged:
    """How an explanation did on the `select` windows: the scorer's own figure, None where there is none, and all else.

    `missed` are the activating windows that were taken for silent ones, `taken` the other way round.
    """

    value: float | None
    scored: Scored
    missed: tuple[Example, ...]
    taken: tuple[Example, ...]


class Selecting:
    """Judges explanations by a scorer on the windows of the split `select`, which are neither shown nor scored."""

    def __init__(self, part: Part, models: Models, base: Path) -> None:
        self.scorer: Scorer = _made("scorers", part, models, base, "scorer")
        self.identity = part.identity(self.scorer)
        self._sample = part.sample
        if self.scorer.blind:
            raise TaskError(f'scorer: the kind "{part.kind}" judges no explanation, so it cannot choose one')
        if self.scorer.targets:
            raise TaskError(f'scorer: the kind "{part.kind}" scores by interventions, and none are there to choose by')

    async def judge(self, explanation: Explanation, examples: LatentExamples, seed: int) -> Judged | None:
        """How an explanation does; None where the split has no windows."""
        if not examples.select:
            return None
        rung = next((one.rung for one in examples.select if one.rung is not None), "random")
        asked = ScoredSet(rung, examples.select, examples.latent, examples.maximum)
        with sampled_within(self._sample):
            scored = await self.scorer.score(explanation, asked, seed_of(seed, "select"))
        value = scored.metrics.get(self.scorer.metric)
        label = _labels(scored)
        pairs = list(zip(scored.examples or examples.select, label, strict=True))
        missed = tuple(example for example, given in pairs if example.activating and given == 0)
        taken = tuple(example for example, given in pairs if not example.activating and given == 1)
        return Judged(None if value is None else float(value), scored, missed, taken)


def made_explainer(part: Part, models: Models, base: Path, where: str) -> Explainer:
    """The explainer of a part; `where` is its key, for mistakes.

    Raises:
        UserError: a kind, setting, model or prompt is wrong.
    """
    return _made("explainers", part, models, base, where)


def _made(group: str, part: Part, models: Models, base: Path, where: str) -> Any:
    kind = registry.load(group, part.kind)
    return kind(validated(kind.Settings, part.model_extra or {}, where), models, base)


def _labels(scored: Scored) -> list[int]:
    """A label for each example, -1 where there is none.

    Of scorers that order examples and give no labels, as many of the first are taken for activating ones as there are.
    """
    verdicts = scored.verdicts
    scores = verdicts.scores
    if (verdicts.label >= 0).any() or scores is None:
        return verdicts.label.tolist()
    order = np.argsort(-np.where(verdicts.answered, scores, -np.inf), kind="stable")
    label = np.where(verdicts.answered, 0, -1)
    label[order[: int(verdicts.truth.sum())]] = 1
    return np.where(verdicts.answered, label, -1).tolist()
