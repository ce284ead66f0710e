"""The paper's explainer: a model is shown activating contexts and asked what they have in common (section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from harness.clients.ask import ask
from harness.clients.models import Models
from harness.errors import PromptError
from harness.examples.draw import LatentExamples
from harness.explainers.base import Explained, Explainer
from harness.questions.kinds import Explain
from harness.questions.prompts import Variant, load_variant
from harness.questions.strength import Rounding
from harness.values import Explanation, Failure

__all__ = ["Contexts", "ContextsSettings", "variant_showing"]


class ContextsSettings(BaseModel):
    """Keys of an `[[explainer]]` of kind `contexts`, and of others that show contexts.

    `strengths` says how the tokens' strengths, tenths of the latent's maximum, are rounded: `floor` as in the paper, so
    that a faint one is 0, or `ceil`, so that only silence is. `with_select` shows the activating windows of the split
    `select`, too: the control of explainers that choose by them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    prompt: str = "default"
    strengths: Rounding = "floor"
    with_select: bool = False


class Contexts(Explainer):
    """Asks `model` by the prompt variant `prompt` once a latent; kinds that show more inherit from it."""

    Settings: ClassVar[type[BaseModel]] = ContextsSettings
    kind: ClassVar[str] = "contexts"
    # the variable of a template that shows what this kind has to show
    shows: ClassVar[str] = "examples"

    def __init__(self, settings: ContextsSettings, models: Models, base: Path) -> None:
        self._client = models.client(settings.model)
        self._variant = variant_showing(settings.prompt, base, self.shows, self.kind)
        self._rounding: Rounding = settings.strengths
        self._with_select = settings.with_select
        self.models = (settings.model,)
        self.identity: Mapping[str, Any] = {
            "kind": self.kind,
            "model": models.identity(settings.model),
            "prompt": self._variant.digest,
            "strengths": settings.strengths,
        } | ({"with_select": True} if settings.with_select else {})

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:
        """Explain one latent from its shown examples."""
        asked = await ask(self._client, self._variant, await self.question(examples), seed=seed)
        assert isinstance(asked.answer, Explanation | Failure)
        return Explained(asked.answer, asked.replies, asked.usage)

    async def question(self, examples: LatentExamples) -> Explain:
        """What is asked of a latent."""
        more = [one for one in examples.select if one.activating] if self._with_select else []
        return Explain((*examples.shown, *more), examples.maximum, self._rounding)


def variant_showing(prompt: str, base: Path, shows: str, kind: str) -> Variant:
    """A variant of `explain` whose template shows a variable that the kind has values for.

    Raises:
        PromptError: it does not, or there is no such variant.
    """
    variant = load_variant("explain", prompt, base)
    if shows not in variant.uses:
        raise PromptError(
            f'{variant.path}: templates.user: does not show the variable {shows}, which the kind "{kind}" is there '
            f'for; its own variant is "{kind}"'
        )
    return variant
