"""A direction of the residual stream as logits: through a model's final norm and its head."""

from __future__ import annotations

from typing import Any

import torch

from harness.errors import SubjectError
from harness.store.vocabulary import Vocabulary
from harness.subject.hookpoints import first
from harness.values import Rise

__all__ = ["moved_most", "unembed"]


@torch.no_grad()
def unembed(model: torch.nn.Module, direction: torch.Tensor) -> torch.Tensor:
    """The logits that a direction `[d]` adds where nothing else stands, float32 `[vocabulary]`.

    The direction goes through the final norm and the head, and what these give of a zero vector is taken away:
    VocabProj of Gur-Arieh et al. 2025.

    Raises:
        SubjectError: the model has no head, or one for another width.
    """
    found: Any = model
    head = found.get_output_embeddings()
    width = getattr(head, "in_features", None)
    if head is None or (width is not None and width != direction.shape[-1]):
        raise SubjectError(
            f"a direction of {direction.shape[-1]} numbers has no logits: the model's head takes {width or 'none'}"
        )
    norm = _norm(model, head)
    both = torch.stack([direction, torch.zeros_like(direction)]).to(next(model.parameters()))
    logits = head(norm(both) if norm is not None else both).float()
    return logits[0] - logits[1]


def moved_most(change: torch.Tensor, vocabulary: Vocabulary, top: int, text: str | None = None) -> Rise:
    """The `top` tokens of the largest and of the smallest changes `[vocabulary]` after a text.

    Special tokens are passed over, and so are those that did not change to that side.
    """
    change = change.float().nan_to_num(0.0, 0.0, 0.0).clone()
    specials = [token for token in vocabulary.specials if token < len(change)]
    change[specials] = 0.0
    # a model's head may be wider than its tokenizer
    change = change[: len(vocabulary)]
    count = min(top, len(change))

    def told(sign: int) -> tuple[tuple[str, float], ...]:
        values, ids = (sign * change).topk(count)
        return tuple(
            (vocabulary.strings[token], round(sign * value, 6))
            for token, value in zip(ids.tolist(), values.tolist(), strict=True)
            if value > 0
        )

    return Rise(text, told(1), told(-1))


def _norm(model: torch.nn.Module, head: torch.nn.Module) -> torch.nn.Module | None:
    """The module whose output goes into the head, the innermost one; None where it is computed in between."""
    gave: list[tuple[torch.nn.Module, torch.Tensor]] = []
    taken: list[torch.Tensor] = []

    def note(module: torch.nn.Module, _: Any, output: Any) -> None:
        value = first(output) if isinstance(output, torch.Tensor | tuple) else None
        if isinstance(value, torch.Tensor):
            gave.append((module, value))

    def take(_: Any, args: Any) -> None:
        taken.append(args[0])

    hooks = [module.register_forward_hook(note) for module in model.modules() if module is not head]
    hooks.append(head.register_forward_pre_hook(take))
    try:
        # several tokens: one of them may be padding, whose embedding is zero and stays so
        model(input_ids=torch.arange(3, device=next(model.parameters()).device)[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return next(
        (module for module, value in gave if value.shape == taken[0].shape and torch.equal(value, taken[0])), None
    )
