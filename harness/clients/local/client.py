"""The client of a model in this process: what it declares, what decides its answers, and asking it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.clients.local.asked import Asked, How
from harness.clients.local.engine import Engine, Key, shared_engine
from harness.clients.local.place import Place
from harness.clients.local.tokens import Tokens
from harness.clients.protocol import Capabilities, Reply, Request
from harness.clients.vectors import Vectors
from harness.clients.wire import Wire
from harness.errors import BadRequest
from harness.values import Usage

__all__ = ["LocalClient"]

_VERSION = 1  # raise it when the same request gets another answer


class LocalClient:
    """A causal language model, which writes and scores, or an embedder.

    Text is drawn from the whole distribution at a request's temperature, and is the likeliest token by token where
    that is 0 or None; logprobs are those at temperature 1. The same request gives the same text, whoever asks at the
    same time. Clients of one model, revision, dtype and device share it: it is loaded when first asked, on the
    device's torch worker, and freed there when the last of them closes.
    """

    def __init__(self, model: str, place: Place, how: How, *, dtype: str, device: str) -> None:
        self.name = how.name
        writes = place.pooling is None
        self.capabilities = Capabilities(
            logprobs=writes,
            temperature=writes,
            seed=writes,
            context=how.context,
            revision=place.revision,
            prompt_logprobs=writes,
            embeddings=not writes,
            kept=writes,
            top_logprobs=(place.vocabulary or 20) if writes else 0,
        )
        self._place = place
        self._how = how
        self._key = Key(model, place.revision, dtype, device)
        self._engine: Engine | None = None

    def wire(self, request: Request) -> Wire:
        """What decides the answer, with the revision of the model's files as its path."""
        if (known := request.wires.get(self)) is None:
            known = request.wires[self] = Wire.of(self._body(request), "local", self._place.revision)
        return known

    async def generate(self, request: Request) -> Reply:
        """Write a reply, score the request's continuation, or embed its texts.

        Raises:
            SubjectError: the model cannot be loaded.
            ContextTooLong: the request does not fit the context; nothing of it was run.
            BadRequest: the model is an embedder and the request has no texts, or the other way round; it has tools, or
                the chat template refuses its messages.
        """
        if request.texts is not None:
            return await self._embedded(request.texts)
        if self.capabilities.embeddings:
            raise BadRequest(f"{self.name} is an embedder: it writes and scores no text", model=self.name)
        if request.tools or any(message.calls or message.role == "tool" for message in request.messages):
            raise BadRequest(f"{self.name} calls no tools, and this request has some", model=self.name)
        if "" in request.stop:
            raise BadRequest("a stop string is empty", model=self.name)
        asked = Asked(request, self._how)
        return await (self._held().write(asked) if request.continuation is None else self._held().score(asked))

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector a text, float32 `[texts, width]`.

        Raises:
            SubjectError: the model cannot be loaded.
            ContextTooLong: a text is longer than the model reads; none is cut.
            BadRequest: the model is no embedder.
        """
        if not self.capabilities.embeddings:
            raise BadRequest(f"{self.name} is no embedder: it has no modules.json", model=self.name)
        return (await self._held().embed(texts, self._how))[0]

    def count(self, request: Request) -> int:
        """How many tokens the request's prompt has, by the model's own tokenizer; no weights are loaded."""
        ids, _ = Tokens(self._place.files).encode(request.messages, request.continuation or "", chat=self._how.chat)
        return len(ids)

    async def aclose(self) -> None:
        """Let go of the model; a second call does nothing."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.leave()

    async def _embedded(self, texts: tuple[str, ...]) -> Reply:
        if not self.capabilities.embeddings:
            raise BadRequest(f"{self.name} is no embedder: it has no modules.json", model=self.name)
        found, tokens = await self._held().embed(texts, self._how)
        try:
            vectors = Vectors.of(found)
        except ValueError as error:
            raise BadRequest(f"{self.name} gives no usable embedding: {error}", model=self.name) from error
        return Reply("", "stop", Usage(input=tokens, requests=1), model=self.name, vectors=vectors)

    def _held(self) -> Engine:
        if self._engine is None:
            self._engine = shared_engine(self._key, self._place)
        return self._engine

    def _body(self, request: Request) -> dict[str, Any]:
        if request.texts is not None:
            return {"version": _VERSION, "dtype": self._key.dtype, "texts": list(request.texts)}
        return {
            "version": _VERSION,
            "dtype": self._key.dtype,
            "chat": self._how.chat,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "continuation": request.continuation,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_logprobs": request.top_logprobs,
            "seed": request.seed,
            "stop": list(request.stop),
            **({"among": list(request.among)} if request.among else {}),
        }
