"""What a change of a latent did after a prompt of anybody's, as values without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.errors import SubjectError
from harness.values import Latent

if TYPE_CHECKING:
    from harness.subject.texts import SubjectTexts

__all__ = ["Effect", "Moved", "effects"]


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


async def effects(
    subject: SubjectTexts,
    latent: Latent,
    prompts: Sequence[str],
    change: Literal["add", "ablate"],
    *,
    nats: float = 1.0,
    tokens: int = 12,
    seed: int = 0,
) -> list[Effect]:
    """What adding a latent's direction, or setting the latent to 0, does after each prompt and at each new token.

    It is added as strongly as moves the next token by a mean KL of `nats` over the prompts, or as near as can be. Both
    continuations are of `tokens` tokens at most, drawn with the same noise. Of a prompt longer than the context the end
    is read. Equal arguments give equal effects.

    Raises:
        SubjectError: a prompt has no token, or the context has no room for so many new ones.
        CoderError: the coder has no directions, or no such latent.
    """
    from harness.subject.changing import changed

    if not prompts:
        raise SubjectError("there is no prompt")
    return await subject.call(
        lambda loaded, check: changed(loaded, latent, prompts, change, nats=nats, tokens=tokens, seed=seed, after=check)
    )
