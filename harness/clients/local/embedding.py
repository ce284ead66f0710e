"""Embeddings as sentence-transformers computes them: a transformer, pooled over a text's tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from harness.clients.local.asked import How
from harness.clients.local.place import Place
from harness.clients.local.tokens import encodable
from harness.errors import ContextTooLong
from harness.subject.models import load_model
from harness.subject.threads import torch_threads

__all__ = ["Embedding"]


class Embedding:
    """A loaded embedder; used on one thread."""

    def __init__(self, place: Place, dtype: str, device: str) -> None:
        assert place.pooling is not None
        self._model: Any = load_model(place.files, dtype, device, encoder=True)
        path = place.files.find("tokenizer.json")
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pooling = place.pooling
        self._context = place.context
        self._pad = self._model.config.pad_token_id or 0

    @torch.no_grad()
    def embed(self, texts: Sequence[str], how: How, look: Callable[[], None]) -> tuple[NDArray[np.float32], int]:
        """One vector a text, float32 `[texts, width]`, and how many tokens were read; `look` is called before a pass.

        Texts of like length go together, as many as `how` allows.

        Raises:
            ContextTooLong: a text is longer than the model reads; none is cut.
        """
        ids = self._encoded(texts)
        found = np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
        with torch_threads(how.threads):
            for batch in _slices(order, [len(row) for row in ids], how):
                look()
                found[batch] = self._vectors([ids[at] for at in batch]).cpu().numpy()
        return found, sum(map(len, ids))

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        pooling = self._pooling
        plain = [pooling.prompt + encodable(text).strip() for text in texts]
        plain = [text.lower() for text in plain] if pooling.lower else plain
        ids = [found.ids for found in self._tokenizer.encode_batch_fast(plain)]
        for text, row in zip(plain, ids, strict=True):
            if self._context is not None and len(row) > self._context:
                raise ContextTooLong(
                    f"a text of {len(row)} tokens is longer than the {self._context} that this model reads "
                    f'("{text[:40]}...")'
                )
        return ids

    def _vectors(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self._pad, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[at, : len(row)] = 1
        device = self._model.device
        hidden = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state.float()
        if self._pooling.mode == "cls":
            pooled = hidden[:, 0]
        else:
            weight = mask.to(device)[..., None].float()
            pooled = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=1) if self._pooling.unit else pooled


def _slices(order: Sequence[int], lengths: Sequence[int], how: How) -> Iterator[list[int]]:
    """The texts in their order, shortest first, cut where a pass would be too large."""
    batch: list[int] = []
    for at in order:
        if batch and (len(batch) == how.rows or (len(batch) + 1) * lengths[at] > how.room):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch
