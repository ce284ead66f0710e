"""A subject asked about a latent of its own: how it is asked, and what it said, as values without torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Asking", "Introspection", "Said"]


@dataclass(frozen=True, slots=True)
class Asking:
    """How a subject is asked what a latent's direction means.

    `{latent}` stands in the `prompt` where the direction is put, behind block `layer` (from 0), once or more. `scales`
    are multiples of the mean norm of what the block gives on the prompt. The subject goes on for `tokens` tokens, the
    most probable ones at `temperature` 0.
    """

    prompt: str
    layer: int
    scales: tuple[float, ...]
    tokens: int
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Said:
    """What was said at one scale.

    `similarity` is the cosine of the latent's direction and what the last block gives at the prompt's last token,
    `entropy` that of the next token in nats; both NaN where they are no numbers.
    """

    scale: float
    similarity: float
    entropy: float
    text: str


@dataclass(frozen=True, slots=True)
class Introspection:
    """What was said at each scale, and which of these is taken, by its place."""

    said: tuple[Said, ...]
    chosen: int

    @property
    def text(self) -> str:
        """What was said at the scale that is taken."""
        return self.said[self.chosen].text
