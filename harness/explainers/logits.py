"""Logits: a model is also shown which tokens the latent's direction makes likelier and less likely by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from harness.clients.models import Models
from harness.errors import CoderError
from harness.examples.draw import LatentExamples
from harness.explainers.contexts import Contexts, ContextsSettings
from harness.questions.kinds import Explain

__all__ = ["Logits", "LogitsSettings"]


class LogitsSettings(ContextsSettings):
    """Keys of an `[[explainer]]` of kind `logits` beyond those of `contexts`; `top` tokens are shown of either kind."""

    prompt: str = "logits"
    top: Annotated[int, Field(ge=1)] = 10


class Logits(Contexts):
    """As `contexts`, with the decoder's row through the subject's unembedding (VocabProj of Gur-Arieh et al. 2025)."""

    Settings: ClassVar[type[BaseModel]] = LogitsSettings
    kind = "logits"
    shows = "promoted"
    needs_subject = True

    def __init__(self, settings: LogitsSettings, models: Models, base: Path) -> None:
        super().__init__(settings, models, base)
        self._top = settings.top
        self._subject: Any = None
        self.identity = {**self.identity, "top": settings.top}

    def bind(self, subject: Any) -> None:
        """Take the subject, whose coders have to have directions.

        Raises:
            CoderError: one has none.
        """
        self._subject = subject
        for coder in subject.coders:
            if not subject.steers(coder):
                raise CoderError(
                    f'the kind "logits" needs the directions of a decoder, and coder "{coder}" has none; leave it out'
                )

    async def question(self, examples: LatentExamples) -> Explain:
        """What is asked of a latent."""
        projected = await self._subject.projected(examples.latent, self._top)
        return replace(await super().question(examples), projected=projected)
