"""Contrast: a model is also shown texts in which the latent is silent (paper appendix A.4.5 proposes such)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field

from harness.clients.models import Models
from harness.examples.draw import LatentExamples
from harness.explainers.contexts import Contexts, ContextsSettings
from harness.questions.kinds import Explain
from harness.task import Rung

__all__ = ["Contrastive", "ContrastiveSettings"]


class ContrastiveSettings(ContextsSettings):
    """Keys of an `[[explainer]]` of kind `contrastive` beyond those of `contexts`.

    `count` silent windows of the shown documents come from `rungs`, as many from each; `with_select` shows the silent
    windows of the split `select`, too.
    """

    prompt: str = "contrastive"
    rungs: Annotated[tuple[Rung, ...], Field(min_length=1)] = ("random",)
    count: Annotated[int, Field(ge=1)] = 20


class Contrastive(Contexts):
    """As `contexts`, with counterexamples."""

    Settings: ClassVar[type[BaseModel]] = ContrastiveSettings
    kind = "contrastive"
    shows = "silent"

    def __init__(self, settings: ContrastiveSettings, models: Models, base: Path) -> None:
        super().__init__(settings, models, base)
        self._count = settings.count
        self.rungs = settings.rungs
        self.identity = {**self.identity, "rungs": list(settings.rungs), "count": settings.count}

    async def question(self, examples: LatentExamples) -> Explain:
        """What is asked of a latent; a window of two rungs is shown once."""
        found = {}
        for place, rung in enumerate(self.rungs):
            wanted = self._count // len(self.rungs) + (place < self._count % len(self.rungs))
            for example in examples.pool.silent(wanted, rung, purpose="contrastive"):
                found.setdefault(example.passage.place, example)
        more = [one for one in examples.select if not one.activating] if self._with_select else []
        return replace(await super().question(examples), silent=(*found.values(), *more))
