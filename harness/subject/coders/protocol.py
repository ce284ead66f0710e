"""What a coder is: something that maps a hookpoint's activations, or the text itself, to sparse latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.store.format import Rows
from harness.subject.hookpoints import Hookpoint
from harness.task import CoderSettings

if TYPE_CHECKING:
    import torch

__all__ = [
    "ActivationCoder",
    "CalibratedCoder",
    "Claims",
    "CoderInfo",
    "CoderKind",
    "LatentCoder",
    "Published",
    "TokenCoder",
]


@dataclass(frozen=True, slots=True)
class Published:
    """The figures that a coder's own files give: mean active latents a token, fraction of variance unexplained."""

    l0: float | None = None
    fvu: float | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What a coder's own files say of how it was trained; None where they say nothing.

    `hook` is the place it reads and `target` the one it predicts, in the words of the library that wrote the files;
    `context` counts tokens. `settings` are how that library changed the model when it loaded it.
    """

    source: str = field(default="", compare=False)
    model: str | None = None
    hook: str | None = None
    target: str | None = None
    context: int | None = None
    bos: bool | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    published: Published = Published()


@dataclass(frozen=True, slots=True)
class CoderInfo:
    """What is known of a coder without loading its weights.

    `d_in` is the width of the vectors it reads, None for a coder that reads text; `d_decoder` that of its
    decoder's rows, None where it has no decoder. `revision` is a commit or a hash of the coder's content.

    `target` is what `decode` speaks of, None where that is what was read; a transcoder reads one hookpoint and
    predicts another, `d_out` wide (None: `d_in`). A `centred` coder reads vectors less their mean over d, and takes
    it away itself; where `target_centred`, what it decodes is to be compared with the target less its mean. `notes` are
    sentences for whoever collects.
    """

    n_latents: int
    d_in: int | None
    d_decoder: int | None
    hookpoint: str
    revision: str
    d_out: int | None = None
    target: Hookpoint | None = None
    claims: Claims = Claims()
    centred: bool = False
    target_centred: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)


@runtime_checkable
class ActivationCoder(Protocol):
    """A coder that reads the activations of a hookpoint, such as a sparse autoencoder."""

    info: CoderInfo

    @property
    def decoder(self) -> NDArray[Any] | None:
        """The latents' directions, float16 `[latents, d]`, or None where there are none."""
        ...

    def encode(self, activations: torch.Tensor) -> Rows:
        """The active latents of each activation `[n, d]`, latents ascending within a row."""
        ...

    def decode(self, rows: Rows, activations: torch.Tensor) -> torch.Tensor:
        """What the latents say the target's vectors were, float32 `[n, d_out]`.

        The `activations` are those that were encoded: they give the scale that a coder which normalises its input
        takes back out, and what a skip connection adds.
        """
        ...


@runtime_checkable
class CalibratedCoder(Protocol):
    """An activation coder that has to see activations of the run before it can encode; the same ones each time."""

    @property
    def calibration(self) -> int:
        """How many of the corpus's first tokens it wants to see; there may be fewer."""
        ...

    def see(self, activations: torch.Tensor) -> None:
        """Look at the next activations `[n, d]`, from the corpus's beginning on."""
        ...

    def settle(self) -> None:
        """Set what depends on the activations seen; called before `encode`."""
        ...


@runtime_checkable
class TokenCoder(Protocol):
    """A coder that reads token strings alone: no model and no torch."""

    info: CoderInfo

    @property
    def decoder(self) -> NDArray[Any] | None:
        """The latents' directions, float16 `[latents, d]`, or None where there are none."""
        ...

    def encode_pieces(self, contexts: Sequence[Sequence[str]]) -> Rows:
        """The active latents of each position of `[contexts][positions]` token strings, row by row in that order."""
        ...


@runtime_checkable
class LatentCoder(Protocol):
    """A coder that can tell what one of its latents does without asking all of them."""

    def strengths(self, latent: int, pieces: Sequence[str]) -> NDArray[np.float32]:
        """`[positions]`: the latent's activation on each token string of a context, 0 where it is silent."""
        ...


class CoderKind(Protocol):
    """The class that is registered under a coder's kind.

    A kind whose decoder promises nothing says `reconstructs = False`: no figure of it stops a collection.
    """

    reads: ClassVar[str]
    """`activations` or `tokens`."""

    @classmethod
    def describe(cls, settings: CoderSettings, base: Path) -> CoderInfo:
        """What is known without loading weights; paths are relative to `base`.

        Raises:
            CoderError: files are missing, broken or of a kind that is not known.
        """
        ...

    @classmethod
    def load(cls, settings: CoderSettings, base: Path, device: str = "cpu", info: CoderInfo | None = None) -> Any:
        """The coder, ready to encode: an ActivationCoder or a TokenCoder as `reads` says.

        `info` is what `describe` gave, as checked against the task (`harness.subject.claims`); None: described anew.
        """
        ...
