"""What an explainer is: an async task that puts into words what a latent does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from harness.clients.models import Models
from harness.examples.draw import LatentExamples
from harness.values import Explanation, Failure, Usage

__all__ = ["Explained", "Explainer"]


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation or why there is none, with the keys of the replies it rests on and what they cost."""

    explanation: Explanation | Failure
    replies: tuple[str, ...] = ()
    usage: Usage = Usage()


class Explainer(Protocol):
    """One explainer of a task; one class a kind, registered by name.

    `Settings` validates the keys of the `[[explainer]]` table beyond `name` and `kind`. `models` are the names of
    the models asked, `identity` a JSON-able value of all that decides the explanations beside the examples.
    """

    Settings: ClassVar[type[BaseModel]]
    models: tuple[str, ...]
    identity: Mapping[str, Any]

    def __init__(self, settings: Any, models: Models, base: Path) -> None: ...

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:
        """Explain one latent from the examples that may be shown; random choices follow `seed`."""
        ...
