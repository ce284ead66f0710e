"""What a coder is worth to the subject: unexplained variance, and the loss with its reconstruction spliced in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness.subject.coders.protocol import ActivationCoder
from harness.subject.figures import CoderFigures, FigureSums
from harness.subject.hookpoints import Hookpoint
from harness.subject.tracing import Traced

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures and losses, in nats a token, over positions of documents.

    `loss_clean` is the subject's own; `loss_spliced` with the coder's reconstruction in place of the hookpoint's
    value; `loss_zero` with zeros there.
    """

    figures: CoderFigures
    loss_clean: float
    loss_spliced: float
    loss_zero: float

    @property
    def recovered(self) -> float:
        """The share of the loss that zeros cost and the reconstruction does not, at most 1."""
        return (self.loss_zero - self.loss_spliced) / (self.loss_zero - self.loss_clean)


def evaluate(
    traced: Traced,
    hookpoint: Hookpoint,
    coder: ActivationCoder,
    batches: Iterable[tuple[NDArray[np.uint32], NDArray[np.int32]]],
) -> Evaluation:
    """Splice a coder into the subject on batches of token ids and documents, `[batch, seq]` each.

    Positions of no document keep their own value, and tokens there are not predicted.
    """
    sums = FigureSums(coder.info.d_in or 0)
    losses = np.zeros(3)
    predicted = 0
    for tokens, documents in batches:
        ids = torch.from_numpy(tokens.astype(np.int64))
        kept = torch.from_numpy(documents >= 0)

        def spliced(hidden: torch.Tensor, kept: torch.Tensor = kept) -> torch.Tensor:
            flat = hidden[kept.to(hidden.device)].float()
            rows = coder.encode(flat)
            made = coder.decode(rows, flat).to(hidden.device)
            sums.add(flat, made, len(rows.latents))
            return _with(hidden, kept, made)

        def zeroed(hidden: torch.Tensor, kept: torch.Tensor = kept) -> torch.Tensor:
            return _with(hidden, kept, torch.zeros((), device=hidden.device))

        for place, change in enumerate((None, spliced, zeroed)):
            losses[place] += _loss(traced.logits(ids, hookpoint, change), ids, kept)
        predicted += int(kept[:, 1:].sum())
    clean, made, nothing = (float(loss) / max(1, predicted) for loss in losses)
    return Evaluation(sums.figures(), clean, made, nothing)


def _with(hidden: torch.Tensor, kept: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    changed = hidden.clone()
    changed[kept.to(hidden.device)] = value.to(hidden.dtype)
    return changed


def _loss(logits: torch.Tensor, ids: torch.Tensor, kept: torch.Tensor) -> float:
    """The summed next-token loss over kept targets."""
    targets = torch.where(kept, ids, -100)[:, 1:].flatten().to(logits.device)
    flat = logits[:, :-1].flatten(0, 1).float()
    return float(torch.nn.functional.cross_entropy(flat, targets, reduction="sum", ignore_index=-100))
