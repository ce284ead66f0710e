"""The explainer kind `self`: the subject itself says what a latent's direction means, put in the place of a word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.clients.models import Models
from harness.examples.draw import LatentExamples
from harness.explainers.base import Explained, Explainer
from harness.subject.introspection import Asking, Introspection, Said
from harness.values import Explanation, Failure, Latent, seed_of

__all__ = ["IntrospectedSubject", "SelfExplaining"]

_PROMPT = 'What is the meaning of the word "{latent}"? The meaning of the word "{latent}" is "'
# from a quarter to eight times what the block gives otherwise, in steps of the root of 2
_SCALES = tuple(round(2 ** (step / 2 - 2), 3) for step in range(11))


class IntrospectedSubject(Protocol):
    """A subject that says what it makes of a latent's direction; `harness.subject.texts.SubjectTexts` is one."""

    async def introspect(self, latent: Latent, asking: Asking, seed: int) -> Introspection:
        """What it says at each scale."""
        ...


class SelfExplaining(Explainer):
    """Asks the subject, with the latent's decoder direction in the place of a word (Kharlapenko et al. 2024)."""

    needs_subject = True

    class Settings(BaseModel):
        """Keys of an `[[explainer]]` of kind `self`.

        `{latent}` stands in the `prompt` where the direction goes: what block `layer` (from 0) gives there is replaced
        by the direction, as long as one of the `scales` times the mean norm of what the block gives. The subject goes
        on for at most `tokens` tokens, the most probable ones at `temperature` 0, and what comes before any of `stop`
        counts. Of the scales the one is taken whose last hidden state is most like the direction and whose next token
        is surest.
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        prompt: str = _PROMPT
        layer: Annotated[int, Field(ge=0)] = 2
        scales: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=100)] = _SCALES
        tokens: Annotated[int, Field(ge=1, le=500)] = 30
        temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
        stop: tuple[Annotated[str, Field(min_length=1)], ...] = ("\n", '"')

        @field_validator("prompt")
        @classmethod
        def _marked(cls, prompt: str) -> str:
            if "{latent}" not in prompt:
                raise ValueError("has to have {latent} where the latent's direction goes")
            return prompt

        @field_validator("scales")
        @classmethod
        def _distinct(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
            if list(scales) != sorted(set(scales)):
                raise ValueError("have to ascend, none twice")
            return scales

    def __init__(self, settings: SelfExplaining.Settings, models: Models, base: Path) -> None:  # noqa: ARG002 - asks none
        self._asking = Asking(settings.prompt, settings.layer, settings.scales, settings.tokens, settings.temperature)
        self._stop = settings.stop
        self._subject: IntrospectedSubject | None = None
        self.models: tuple[str, ...] = ()
        self.identity: Mapping[str, Any] = {"kind": "self", **settings.model_dump(mode="json")}

    def bind(self, subject: IntrospectedSubject) -> None:
        """Take the subject that is asked."""
        self._subject = subject

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:
        """Ask about one latent; no example is looked at."""
        assert self._subject is not None
        found = await self._subject.introspect(examples.latent, self._asking, seed_of(seed, "self"))
        notes = {"scale": found.said[found.chosen].scale, "scales": [_noted(said) for said in found.said]}
        text = self._cut(found.text)
        if not text:
            failure = Failure("unparsable", f"at scale {notes['scale']:g} the subject said nothing")
            return Explained(failure, notes=notes)
        return Explained(Explanation(text), notes=notes)

    def _cut(self, text: str) -> str:
        """What comes before any of the strings that end it."""
        ends = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        return text[: min(ends, default=len(text))].strip()


def _noted(said: Said) -> list[Any]:
    """Scale, similarity, entropy and text; what is no number is None."""
    numbers = [round(value, 4) if math.isfinite(value) else None for value in (said.similarity, said.entropy)]
    return [said.scale, *numbers, said.text]
