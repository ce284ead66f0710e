"""What a coder is: something that maps a hookpoint's activations, or the text itself, to sparse latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from numpy.typing import NDArray

from harness.store.format import Rows
from harness.task import CoderSettings

if TYPE_CHECKING:
    import torch

__all__ = ["ActivationCoder", "CoderInfo", "CoderKind", "TokenCoder"]


@dataclass(frozen=True, slots=True)
class CoderInfo:
    """What is known of a coder without loading its weights.

    `d_in` is the width of the vectors it reads, None for a coder that reads text; `d_decoder` that of its
    decoder's rows, None where it has no decoder. `revision` is a commit or a hash of the coder's content.
    """

    n_latents: int
    d_in: int | None
    d_decoder: int | None
    hookpoint: str
    revision: str


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
        """What the latents say the `activations` were, float32 `[n, d]`.

        The activations give the scale that a coder which normalises its input takes back out.
        """
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


class CoderKind(Protocol):
    """The class that is registered under a coder's kind."""

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
    def load(cls, settings: CoderSettings, base: Path, device: str = "cpu") -> Any:
        """The coder, ready to encode: an ActivationCoder or a TokenCoder as `reads` says."""
        ...
