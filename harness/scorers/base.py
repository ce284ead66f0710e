"""What a scorer is: an async task that judges how well an explanation tells what a latent does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from harness.clients.models import Models
from harness.scorers.verdicts import Verdicts
from harness.values import Explanation, ScoredSet, Usage

__all__ = ["Scored", "Scorer"]


@dataclass(frozen=True, slots=True)
class Scored:
    """A scorer's verdicts with their figures, the keys of the replies they rest on and what these cost."""

    verdicts: Verdicts
    metrics: Mapping[str, Any]
    replies: tuple[str, ...] = ()
    usage: Usage = Usage()


class Scorer(Protocol):
    """One scorer of a task; one class a kind, registered by name.

    `Settings` validates the keys of the `[[scorer]]` table beyond `name` and `kind`. `models` are the names of the
    models asked, `prompt` the variant's name, `identity` a JSON-able value of all that decides the verdicts beside
    explanation and examples. One that wants more of a model than text says so in `wants`, a tuple of
    `harness.clients.wants.Want`. One that shows the latent's tokens marked has `marks`, true: only such are asked on
    the rung `misplaced`.
    """

    Settings: ClassVar[type[BaseModel]]
    models: tuple[str, ...]
    prompt: str
    identity: Mapping[str, Any]

    def __init__(self, settings: Any, models: Models, base: Path) -> None: ...

    async def score(self, explanation: Explanation | None, examples: ScoredSet, seed: int) -> Scored:
        """Judge one explanation on one rung's examples; None is an explanation withheld (the control `none`)."""
        ...
