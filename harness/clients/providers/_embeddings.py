"""OpenAI's embeddings, which most servers of embedders speak: texts as bodies, and bodies as vectors."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.clients.protocol import Capabilities, Reply, Request
from harness.clients.providers._chat import usage_of
from harness.clients.providers._dialect import plain
from harness.clients.vectors import Vectors

__all__ = ["EmbeddingsDialect"]


class _Item(TypedDict):
    index: NotRequired[int]
    embedding: list[float] | str


class _Embeddings(TypedDict, total=False):
    id: Any
    model: Any
    data: list[_Item]
    usage: Any
    error: Any


_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)


@dataclass(frozen=True, slots=True)
class EmbeddingsDialect:
    """Embeddings of a request's texts; with an `encoding` ("base64") vectors are asked for in that form.

    Vectors are read in both forms, for some servers know only lists of numbers.
    """

    model: str
    capabilities: Capabilities
    extra: Mapping[str, Any]
    encoding: str | None = None
    path: str = "/embeddings"

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body; an empty text, which OpenAI refuses, is sent as a blank."""
        body: dict[str, Any] = {"model": self.model, "input": [plain(text) or " " for text in request.texts or ()]}
        if self.encoding is not None:
            body["encoding_format"] = self.encoding
        return body | dict(self.extra)

    def decode(self, content: bytes) -> Mapping[str, Any]:
        """A list of embeddings without what is not looked at.

        Raises:
            ValueError: it is no JSON, or no JSON that can be a reply.
        """
        return _EMBEDDINGS.decode(content)

    def reply(self, data: Mapping[str, Any], request: Request) -> Reply:
        """The reply in a list of embeddings.

        Raises:
            KeyError, TypeError, ValueError: it is no list of one vector for each text, all of one width and finite.
        """
        items: Sequence[_Item] = data["data"]
        order = [item.get("index", at) for at, item in enumerate(items)]
        if sorted(order) != list(range(len(request.texts or ()))):
            raise ValueError("not one vector for each text")
        rows = dict(zip(order, (_row(item["embedding"]) for item in items), strict=True))
        return Reply(
            text="",
            finish="stop",
            usage=usage_of(data.get("usage")),
            model=data.get("model") or "",
            request_id=data.get("id"),
            vectors=Vectors.of([rows[at] for at in range(len(rows))]),
        )


def _row(embedding: list[float] | str) -> NDArray[np.floating]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    return np.array(embedding)
