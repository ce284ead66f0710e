"""What a scorer is: an async task that judges how well an explanation tells what a latent does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from harness.clients.models import Models
from harness.clients.wants import Want
from harness.scorers.verdicts import Verdicts
from harness.subject.intervened import Intervener
from harness.values import Example, Explanation, Latent, ReadText, ScoredSet, Usage

__all__ = ["Scored", "Scorer", "TextReader"]


@dataclass(frozen=True, slots=True)
class Scored:
    """A scorer's verdicts with their figures, the keys of the replies they rest on and what these cost.

    `examples` are what the verdicts are of, in their order, where those are not the examples that were to be judged.
    """

    verdicts: Verdicts
    metrics: Mapping[str, Any]
    replies: tuple[str, ...] = ()
    usage: Usage = Usage()
    examples: tuple[Example, ...] = ()


class TextReader(Protocol):
    """Whatever can tell where a latent is active in texts; `harness.subject.texts.SubjectTexts` does."""

    async def read(self, latent: Latent, texts: Sequence[str]) -> Sequence[ReadText]:
        """Each text as the subject reads it by itself, with the latent's activations."""
        ...


class Scorer(Protocol):
    """One scorer of a task; one class a kind, registered by name.

    `Settings` validates the keys of the `[[scorer]]` table beyond `name` and `kind`. `models` are the names of the
    models asked, `prompt` the variant's name, `identity` a JSON-able value of all that decides the verdicts beside
    explanation and examples. What a kind does not say itself holds for it if it inherits from this class:

    - `metric`: the figure that it is ranked by, a key of `harness.metrics.CHANCE`;
    - `wants`: what it wants of a model beyond text;
    - `blind`: true where no explanation is judged, so that a latent has one score, whatever its explanations;
    - `chance`: what that figure is by guessing, where it is not that of `harness.metrics.CHANCE`;
    - `needs_subject`: true where it has texts read by the subject: the task needs one, and `bind` is called once before
      it scores;
    - `targets`: the KLs, in nats, at which it looks at interventions: the task needs [interventions] with these, and
      `bind_interventions` is called before it scores;
    - `takes`: on which rungs it is asked.
    """

    Settings: ClassVar[type[BaseModel]]
    models: tuple[str, ...]
    prompt: str
    identity: Mapping[str, Any]
    metric: str = "balanced_accuracy"
    wants: tuple[Want, ...] = ()
    blind: bool = False
    chance: float | None = None
    needs_subject: bool = False
    targets: tuple[float, ...] = ()

    def __init__(self, settings: Any, models: Models, base: Path) -> None: ...

    async def score(self, explanation: Explanation | None, examples: ScoredSet, seed: int) -> Scored:
        """Judge one explanation on one rung's examples; None is an explanation withheld (the control `none`)."""
        ...

    def bind(self, subject: TextReader) -> None:
        """Take who reads texts."""

    def bind_interventions(self, source: Intervener) -> None:
        """Take who changes latents while the subject writes."""

    def takes(self, rung: str) -> bool:
        """Whether it is asked on a rung; by default on all but `misplaced`, which is for those that show marks."""
        return rung != "misplaced"
