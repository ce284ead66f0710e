"""What an explainer is: an async task that puts into words what a latent does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel

from harness.clients.models import Models
from harness.clients.wants import Want
from harness.examples.draw import LatentExamples
from harness.subject.intervened import Intervener
from harness.task import Rung
from harness.values import Explanation, Failure, Usage

__all__ = ["Explained", "Explainer", "Refers"]

# keys of a table, and what the tables or names that stand there are of
Refers = Mapping[str, Literal["explainer", "scorer"]]


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation or why there is none, with the keys of the replies it rests on and what they cost.

    `notes` is a JSON-able value of how it came about that a reader may want to see, such as candidates passed over.
    """

    explanation: Explanation | Failure
    replies: tuple[str, ...] = ()
    usage: Usage = Usage()
    notes: Mapping[str, Any] = field(default_factory=dict)


class Explainer(Protocol):
    """One explainer of a task; one class a kind, registered by name.

    `Settings` validates the keys of the `[[explainer]]` table beyond `name` and `kind`. `models` are the names of
    the models asked, `identity` a JSON-able value of all that decides the explanations beside the examples. What a kind
    does not say itself holds for it if it inherits from this class:

    - `wants`: what it wants of a model beyond text;
    - `needs_subject`: true where it asks the subject: the task needs one, and `bind` is called once before it explains;
    - `uses_subject`: true where it asks the subject if there is one: `bind` is called where the task has a [subject];
    - `targets`: the KLs, in nats, at which it looks at interventions: the task needs [interventions] with these, and
      `bind_interventions` is called before it explains;
    - `chooses`: true where it takes one of several explanations by the interventions' prompts to choose by;
    - `rungs`: of which silent windows it draws more from `LatentExamples.pool`, so that what these need is there;
    - `refers`: keys of its table that hold tables of other explainers or scorers, `explainer` or `scorer` by key: the
      name of one in the task may stand there in place of a table.
    """

    Settings: ClassVar[type[BaseModel]]
    models: tuple[str, ...]
    identity: Mapping[str, Any]
    wants: tuple[Want, ...] = ()
    needs_subject: bool = False
    uses_subject: bool = False
    targets: tuple[float, ...] = ()
    chooses: bool = False
    rungs: tuple[Rung, ...] = ()
    refers: ClassVar[Refers] = {}

    def __init__(self, settings: Any, models: Models, base: Path) -> None: ...

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:
        """Explain one latent from the examples that may be shown; random choices follow `seed`."""
        ...

    def bind(self, subject: Any) -> None:
        """Take the subject, a `harness.subject.texts.SubjectTexts` or what stands in for it."""

    def bind_interventions(self, source: Intervener) -> None:
        """Take who changes latents while the subject writes."""
