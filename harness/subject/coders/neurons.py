"""The coder kind `neurons`: a hookpoint's own coordinates as latents, all of them or the k strongest of a token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness.subject.coders.options import needed, refuse_options
from harness.subject.coders.protocol import CoderInfo
from harness.subject.hookpoints import Hookpoint
from harness.task import CoderSettings
from harness.values import digest

if TYPE_CHECKING:
    from harness.subject.coders.coordinates import CoordinateCoder

__all__ = ["NeuronsCoder"]


class NeuronsCoder:
    """Latent i is coordinate i where it is above zero, or with `absolute` its magnitude; with `k` only the k largest.

    An MLP's neurons are the input of the module that projects them down, such as `model.layers.5.mlp.down_proj`.
    """

    reads: ClassVar[str] = "activations"
    reconstructs: ClassVar[bool] = False

    @classmethod
    def describe(cls, settings: CoderSettings, base: Path) -> CoderInfo:  # noqa: ARG003 - has no files
        """How many coordinates there are, and what is made of them.

        Raises:
            CoderError: the hookpoint's width is not known.
        """
        refuse_options(settings, "path", "target", "latents", "seed", "rate", "center_writing_weights")
        width = needed(settings, "width", settings.width)
        made = digest(["neurons", width, settings.k, settings.absolute])
        hookpoint = str(Hookpoint(settings.hookpoint or "", settings.input))
        return CoderInfo(width, width, None, hookpoint, made, d_out=width)

    @classmethod
    def load(
        cls,
        settings: CoderSettings,
        base: Path,
        device: str = "cpu",
        info: CoderInfo | None = None,
    ) -> CoordinateCoder:
        """The coder, ready to encode on `device`."""
        from harness.subject.coders.coordinates import CoordinateCoder

        return CoordinateCoder(info or cls.describe(settings, base), device, settings.k, absolute=settings.absolute)
