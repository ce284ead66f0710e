"""A causal model's forward pass over rows of different lengths."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["Forward", "told"]


class Forward:
    """A causal language model, called with what its architecture takes."""

    def __init__(self, model: torch.nn.Module, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.device = next(model.parameters()).device
        self._model = model
        takes = inspect.signature(model.forward).parameters
        self._positions = "position_ids" in takes
        self._keeps = "logits_to_keep" in takes

    @torch.no_grad()
    def __call__(
        self, ids: torch.Tensor, mask: torch.Tensor, *, keep: int, cache: Any = None, use_cache: bool = False
    ) -> tuple[torch.Tensor, Any]:
        """Next-token logits of the last `keep` positions, float32 `[rows, keep, vocabulary]`, and the cache after them.

        Args:
            ids: int64 `[rows, new]`.
            mask: int64 `[rows, past + new]`, 0 at padding, which may be on either side.
            keep: 1 to new.
            cache: keys and values of what is past.
            use_cache: whether a cache is wanted.
        """
        options: dict[str, Any] = {}
        if self._positions:
            # counted along each row, so that padding moves nothing
            options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if self._keeps:
            options["logits_to_keep"] = keep
        found: Any = self._model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=use_cache, **options
        )
        return found.logits[:, -keep:].float(), found.past_key_values if use_cache else None

    def padded(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, int64 `[rows, longest]`, of rows of token ids; padding holds the id 0."""
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            where = slice(longest - len(row), longest) if left else slice(0, len(row))
            ids[at, where] = torch.tensor(row, dtype=torch.int64)
            mask[at, where] = 1
        return ids.to(self.device), mask.to(self.device)


def told(
    logprobs: torch.Tensor, tokens: Sequence[int], top: int, among: Sequence[int] = ()
) -> list[tuple[int, float, list[tuple[int, float]]]]:
    """Each token with its logprob and the `top` most likely at its place, from logprobs `[positions, vocabulary]`.

    With `among` these tokens are told in place of the most likely, all of them.
    """
    chosen = torch.tensor(list(tokens), dtype=torch.int64, device=logprobs.device)
    values = logprobs.gather(-1, chosen[:, None])[:, 0].tolist()
    if not top:
        return [(token, value, []) for token, value in zip(tokens, values, strict=True)]
    if among:
        ids = torch.tensor(among, dtype=torch.int64, device=logprobs.device).expand(len(logprobs), -1)
        best = logprobs.gather(-1, ids)
    else:
        best, ids = logprobs.topk(min(top, logprobs.shape[-1]), dim=-1)
    others = [list(zip(*pair, strict=True)) for pair in zip(ids.tolist(), best.tolist(), strict=True)]
    return list(zip(tokens, values, others, strict=True))
