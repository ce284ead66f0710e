"""What a change of a latent did after a prompt of anybody's, as values without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Change", "Effect", "Moved"]

Change = Literal["add", "ablate"]


@dataclass(frozen=True, slots=True)
class Moved:
    """A token's probability after a prompt, before and after a change."""

    token: str
    clean: float
    changed: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change did after one prompt: the tokens that rose and fell most, and both continuations.

    `kl` is KL(clean || changed) of the next token in nats; `prompt` is what was read of the one given.
    """

    prompt: str
    kl: float
    rose: tuple[Moved, ...]
    fell: tuple[Moved, ...]
    clean: str
    changed: str
