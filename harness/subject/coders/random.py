"""Controls without training: a random TopK autoencoder, and random directions that fire at a given rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness.subject.coders.options import needed, refuse_options
from harness.subject.coders.protocol import CoderInfo
from harness.subject.hookpoints import Hookpoint
from harness.task import CoderSettings
from harness.values import digest

if TYPE_CHECKING:
    from harness.subject.coders.directions import DirectionCoder
    from harness.subject.coders.sparse import SparseCoder

__all__ = ["RandomDirections", "RandomSAE"]

# raised when the same settings give other thresholds
_VERSION = 2


class RandomSAE:
    """The coder kind `random-sae`: `latents` directions drawn from the unit sphere, the `k` strongest fire.

    The encoder's columns are the decoder's rows, without biases (the paper's baseline for interventions).
    """

    reads: ClassVar[str] = "activations"
    reconstructs: ClassVar[bool] = False

    @classmethod
    def describe(cls, settings: CoderSettings, base: Path) -> CoderInfo:  # noqa: ARG003 - has no files
        """What will be drawn.

        Raises:
            CoderError: latents, k or the hookpoint's width are missing.
        """
        refuse_options(settings, "path", "target", "rate", "absolute", "center_writing_weights")
        k = needed(settings, "k", settings.k)
        return _info(settings, ["random-sae", k])

    @classmethod
    def load(
        cls, settings: CoderSettings, base: Path, device: str = "cpu", info: CoderInfo | None = None
    ) -> SparseCoder:
        """The coder, ready to encode on `device`."""
        import torch

        from harness.subject.coders.directions import unit_directions
        from harness.subject.coders.sparse import SparseCoder, SparseWeights

        info = info or cls.describe(settings, base)
        drawn = unit_directions(info.n_latents, info.d_in or 0, settings.seed)
        weights = SparseWeights(
            drawn.T.contiguous(),
            torch.zeros(info.n_latents),
            drawn,
            torch.zeros(info.d_in or 0),
            "topk",
            min(settings.k or 0, info.n_latents),
            subtract_b_dec=False,
        )
        return SparseCoder(info, weights, device)


class RandomDirections:
    """The coder kind `random-directions`: `latents` directions, each firing on a share `rate` of tokens.

    A list of rates, such as those of the latents that are compared with, is gone through again and again. A
    direction's threshold is set on the first tokens of the corpus, the more the rarer it fires; its value is how far
    the projection is above it.
    """

    reads: ClassVar[str] = "activations"
    reconstructs: ClassVar[bool] = False

    @classmethod
    def describe(cls, settings: CoderSettings, base: Path) -> CoderInfo:  # noqa: ARG003 - has no files
        """What will be drawn.

        Raises:
            CoderError: latents, rate or the hookpoint's width are missing.
        """
        refuse_options(settings, "path", "target", "k", "absolute", "center_writing_weights")
        # thresholds follow from these, the subject and the corpus, which the store's manifest holds
        return _info(settings, ["random-directions", _VERSION, *_rates(settings)])

    @classmethod
    def load(
        cls, settings: CoderSettings, base: Path, device: str = "cpu", info: CoderInfo | None = None
    ) -> DirectionCoder:
        """The coder on `device`; it has to be calibrated before it encodes."""
        from harness.subject.coders.directions import DirectionCoder, unit_directions

        info = info or cls.describe(settings, base)
        drawn = unit_directions(info.n_latents, info.d_in or 0, settings.seed)
        return DirectionCoder(info, drawn, _rates(settings), device)


def _rates(settings: CoderSettings) -> tuple[float, ...]:
    rate = needed(settings, "rate", settings.rate)
    return rate if isinstance(rate, tuple) else (rate,)


def _info(settings: CoderSettings, kind: list[object]) -> CoderInfo:
    width, latents = needed(settings, "width", settings.width), needed(settings, "latents", settings.latents)
    hookpoint = str(Hookpoint(settings.hookpoint or "", settings.input))
    made = digest([*kind, width, latents, settings.seed])
    return CoderInfo(latents, width, width, hookpoint, made, d_out=width)
