"""One loaded model for all clients that ask it: loaded, run and freed on its device's torch worker."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import numpy as np
from numpy.typing import NDArray

from harness.clients.local.asked import Asked, How
from harness.clients.local.batching import Batches
from harness.clients.local.place import Place
from harness.clients.protocol import Reply
from harness.subject.worker import Caller, worker

# torch is imported on the worker's thread, by what is imported there: it takes seconds
if TYPE_CHECKING:
    from harness.clients.local.causal import Causal
    from harness.clients.local.embedding import Embedding
    from harness.clients.local.scoring import Span
    from harness.clients.local.writing import Draft

__all__ = ["Engine", "Key", "shared_engine"]


@dataclass(frozen=True, slots=True)
class Key:
    """What clients of one engine have in common."""

    name: str
    revision: str
    dtype: str
    device: str


class Engine:
    """A model that is loaded when first asked and freed when its last user leaves; made by `shared_engine`.

    Its methods raise SubjectError where the model cannot be loaded, and ContextTooLong and BadRequest where it cannot
    take a request.
    """

    def __init__(self, key: Key, place: Place) -> None:
        self.users = 0
        self._key = key
        self._place = place
        self._thread = worker(key.device)
        self._loaded: Causal | Embedding | None = None
        self._writing: Batches[Asked, Draft, Reply] = Batches(self._thread, lambda: self._causal().writing)
        self._scoring: Batches[Asked, Span, Reply] = Batches(self._thread, lambda: self._causal().scoring)

    async def write(self, asked: Asked) -> Reply:
        """A generated reply."""
        return await self._writing.ask(asked)

    async def score(self, asked: Asked) -> Reply:
        """The logprobs of a request's continuation."""
        return await self._scoring.ask(asked)

    async def embed(self, texts: Sequence[str], how: How) -> tuple[NDArray[np.float32], int]:
        """One vector a text, float32 `[texts, width]`, and how many tokens were read."""

        def job(caller: Caller) -> tuple[NDArray[np.float32], int]:
            return self._embedding().embed(texts, how, caller.check)

        return await self._thread.call(job)

    async def leave(self) -> None:
        """Let go; the last one to do so returns when the model is freed."""
        with _LOCK:
            self.users -= 1
            if self.users:
                return
            del _SHARED[self._key]
        with anyio.CancelScope(shield=True):
            await self._thread.call(lambda _: self._free())

    def _causal(self) -> Causal:
        from harness.clients.local.causal import Causal

        if not isinstance(self._loaded, Causal):
            self._loaded = Causal(self._place, self._key.dtype, self._key.device)
        return self._loaded

    def _embedding(self) -> Embedding:
        from harness.clients.local.embedding import Embedding

        if not isinstance(self._loaded, Embedding):
            self._loaded = Embedding(self._place, self._key.dtype, self._key.device)
        return self._loaded

    def _free(self) -> None:
        if self._loaded is None:
            return
        import torch

        self._loaded = None
        gc.collect()
        if self._key.device.startswith("cuda"):
            torch.cuda.empty_cache()


def shared_engine(key: Key, place: Place) -> Engine:
    """The one engine of a key, with one user more, who has to leave it in the end."""
    with _LOCK:
        engine = _SHARED.setdefault(key, Engine(key, place))
        engine.users += 1
        return engine


_SHARED: dict[Key, Engine] = {}
_LOCK = threading.Lock()
