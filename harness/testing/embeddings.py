"""OpenAI's embeddings as the fake provider speaks them: vectors of the words that a text has."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.testing.answers import Answer
from harness.testing.bill import Counted
from harness.testing.openai import OpenAIProtocol
from harness.testing.protocols import Conversation, Sent
from harness.values import seed_of

__all__ = ["Embeddings", "embedding", "spoil_vectors"]

_WIDTH = 64
_MOST = 2048  # texts of a request
_WORD = re.compile(r"\w+")


class Embeddings(OpenAIProtocol):
    """`/v1/embeddings`, of a text or a list of them."""

    def conversations(self, body: Mapping[str, Any]) -> Sequence[Conversation]:  # noqa: ARG002 - a Protocol's shape
        """Nothing is to be answered in words."""
        return ()

    def check(self, body: Mapping[str, Any]) -> str | None:
        """What is wrong with a request, None where nothing is."""
        texts = _texts(body)
        if not texts or not all(isinstance(text, str) and text for text in texts):
            return "input: a text, or a list of texts none of which is empty, is required"
        if len(texts) > _MOST:
            return f"input: at most {_MOST} texts are taken"
        if body.get("encoding_format", "float") not in ("float", "base64"):
            return "encoding_format has to be float or base64."
        if not isinstance(body.get("dimensions", 1), int) or body.get("dimensions", 1) < 1:
            return "dimensions has to be at least 1."
        return None

    def reply(
        self,
        body: Mapping[str, Any],
        answers: Sequence[Answer],  # noqa: ARG002 - a Protocol's shape
        request_id: str,
        seed: int,  # noqa: ARG002
        *,
        unbounded: bool,  # noqa: ARG002
    ) -> Sent:
        """A vector for each text."""
        encoded = body.get("encoding_format") == "base64"
        width = body.get("dimensions", _WIDTH)
        vectors = [embedding(text, width) for text in _texts(body)]
        data = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": at, "embedding": _base64(vector) if encoded else vector.tolist()}
                for at, vector in enumerate(vectors)
            ],
            "model": body.get("model", ""),
        }
        counted = Counted(sum(max(1, self._tokens.count(text)) for text in _texts(body)), 0)
        data["usage"] = {"prompt_tokens": counted.input, "total_tokens": counted.input}
        return Sent(200, data, {self.id_header: request_id}, counted=counted)


def embedding(text: str, width: int = _WIDTH) -> NDArray[np.float64]:
    """The vector of a text, of length 1 and always the same: the sum of random ones of its words, in lower case."""
    words = _WORD.findall(text.lower()) or [text]
    drawn = [np.random.default_rng(seed_of("embedding", word)).standard_normal(width) for word in words]
    found = np.sum(drawn, axis=0)
    return found / np.linalg.norm(found)


def spoil_vectors(data: dict[str, Any], kind: str) -> None:
    """Break the last vector in a reply's data, as a fault says; a reply of text has none."""
    items = data.get("data")
    if not items:
        return
    if kind == "fewer_vectors":
        items.pop()
        return
    was = items[-1]["embedding"]
    vector = np.frombuffer(base64.b64decode(was), "<f4").copy() if isinstance(was, str) else np.array(was)
    if kind == "narrow_vector":
        vector = vector[:-1]
    else:
        vector[0] = np.nan
    items[-1]["embedding"] = _base64(vector) if isinstance(was, str) else vector.tolist()


def _texts(body: Mapping[str, Any]) -> list[Any]:
    given = body.get("input")
    return list(given) if isinstance(given, list) else [given]


def _base64(vector: NDArray[np.floating]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
