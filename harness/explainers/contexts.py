"""The paper's explainer: a model is shown activating contexts and asked what they have in common (section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.clients.ask import ask
from harness.clients.models import Models
from harness.examples.draw import LatentExamples
from harness.explainers.base import Explained, Explainer
from harness.questions.kinds import Explain
from harness.questions.prompts import load_variant
from harness.questions.strength import Rounding
from harness.values import Explanation, Failure

__all__ = ["Contexts"]


class Contexts(Explainer):
    """Asks `model` by the prompt variant `prompt` once a latent."""

    class Settings(BaseModel):
        """Keys of an `[[explainer]]` of kind `contexts`.

        `strengths` says how the tokens' strengths, tenths of the latent's maximum, are rounded: `floor` as in the
        paper, so that a faint one is 0, or `ceil`, so that only silence is.
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        model: str
        prompt: str = "default"
        strengths: Rounding = "floor"

    def __init__(self, settings: Contexts.Settings, models: Models, base: Path) -> None:
        self._client = models.client(settings.model)
        self._variant = load_variant("explain", settings.prompt, base)
        self._rounding: Rounding = settings.strengths
        self.models = (settings.model,)
        self.identity: Mapping[str, Any] = {
            "kind": "contexts",
            "model": models.identity(settings.model),
            "prompt": self._variant.digest,
            "strengths": settings.strengths,
        }

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:
        """Explain one latent from its shown examples."""
        question = Explain(examples.shown, examples.maximum, self._rounding)
        asked = await ask(self._client, self._variant, question, seed=seed)
        assert isinstance(asked.answer, Explanation | Failure)
        return Explained(asked.answer, asked.replies, asked.usage)
