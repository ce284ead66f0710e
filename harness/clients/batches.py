"""Requests that go by batch, at half the price: what a provider's batch API does, and the layer that hands them over.

A request is written down, its reply comes hours later. Whoever asks gets `Waiting` until it is there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from harness.clients.layer import Layer
from harness.clients.ledger import Attempt, new_id
from harness.clients.metering import at_most
from harness.clients.prices import Price
from harness.clients.protocol import Client, Reply, Request
from harness.clients.purpose import purpose
from harness.clients.wire import Wire
from harness.errors import ClientError, Drained, Waiting
from harness.questions.messages import Message

__all__ = [
    "DISCOUNT",
    "BatchAPI",
    "Batching",
    "Desk",
    "Look",
    "Result",
    "Search",
    "attempt_of",
    "custom_id",
    "pack_shape",
    "unpack_shape",
]

# of the live price, for all kinds of tokens, at both providers
DISCOUNT = 0.5
# hex digits of a request's key in its custom id
_KEY = 24


@dataclass(frozen=True, slots=True)
class Look:
    """How a batch is getting on.

    `refused` batches failed as a whole and cost nothing; `told` says why, and `crowded` that only too much was waiting
    already. `done` of its `total` requests have ended so far, as far as the provider tells.
    """

    state: Literal["running", "ended", "refused"]
    done: int = 0
    total: int = 0
    told: str = ""
    crowded: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One request's result; `read` gives the reply to the request, or why there is none."""

    custom_id: str
    read: Callable[[Request], Reply | ClientError]


@dataclass(frozen=True, slots=True)
class Search:
    """What came of looking for a batch: its `id`, or None; then `sure` says that the provider has none."""

    id: str | None
    sure: bool = True


class BatchAPI(Protocol):
    """One model's batches at one account. Methods raise `ClientError` where the provider cannot be asked."""

    most_requests: int
    most_bytes: int

    def check(self, request: Request) -> None:
        """Refuse what cannot be answered, before it is written down.

        Raises:
            ClientError: the model does not give what is asked for, or the prompt is too long.
        """
        ...

    def line(self, custom_id: str, path: str, body: bytes) -> bytes:
        """A request's part of a submission."""
        ...

    async def submit(self, lines: Sequence[bytes], path: str, mark: str) -> str:
        """Submit requests of one path as a batch marked with `mark`; gives the provider's id of it.

        Raises:
            ClientError: it was not taken; where the error may have been `billed` that is not known.
        """
        ...

    async def find(self, mark: str, requests: int, since: float, ours: Callable[[str], bool]) -> Search:
        """Look for a batch of so many requests that was marked so, submitted no earlier than `since` (Unix time).

        `ours` tells whether a custom id is one of its requests', for providers that keep no marks.
        """
        ...

    async def look(self, batch: str) -> Look:
        """How a batch is getting on."""
        ...

    async def results(self, batch: str) -> Iterable[Result]:
        """The results of a batch that ended, in any order, some perhaps twice, and some missing."""
        ...


class Desk(Protocol):
    """Where requests are handed over; a run's `Batches`."""

    def out(self, key: str) -> bool:
        """Whether a request is written down or out already."""
        ...

    def failed(self, key: str) -> ClientError | None:
        """Why a request has no reply and gets none in this run."""
        ...

    async def note(self, attempt: Attempt, wire: Wire, request: Request) -> None:
        """Commit that a request is to be sent with the next batch; its attempt's bound is set aside.

        Raises:
            OverBudget: it might cost more than is left.
            Waiting: it might, unless what is out costs less than it may.
        """
        ...


class Batching(Layer):
    """Hands requests over to a desk instead of asking; `live` answers what cannot wait, the probes before a run."""

    def __init__(
        self, client: Client, api: BatchAPI, live: Client, desk: Desk, price: Price | None, stopping: Callable[[], bool]
    ) -> None:
        super().__init__(client)
        self._api = api
        self._live = live
        self._desk = desk
        self._price = price
        self._stopping = stopping

    async def generate(self, request: Request) -> Reply:
        """Hand the request over; only a probe is answered.

        Raises:
            Waiting: the reply comes later.
            ClientError: there is none, and none comes.
        """
        if purpose().stage == "probe":
            return await self._live.generate(request)
        wire = self.wire(request)
        key = wire.key(request.sample)
        if (error := self._desk.failed(key)) is not None:
            raise copy.copy(error)
        if not self._desk.out(key):
            self._api.check(request)
            if self._stopping():
                raise Drained("the run is stopping", model=self.name)
            bound = at_most(wire, request, self._price)
            await self._desk.note(Attempt(new_id(), key, self.name, purpose(), bound), wire, request)
        raise Waiting("the request waits for a batch", model=self.name)


def custom_id(attempt: str, key: str) -> str:
    """What a provider is told to know a request by: the beginning of its key, and the id of this sending of it."""
    return f"{key[:_KEY]}-{attempt}"


def attempt_of(custom_id: str) -> str:
    """The id of the attempt in a custom id."""
    return custom_id.rpartition("-")[2]


def pack_shape(request: Request) -> str:
    """As JSON what it takes of a request to read a reply to it, beside its wire."""
    shape: dict[str, Any] = {}
    if request.top_logprobs is not None:
        shape["top_logprobs"] = request.top_logprobs
    if request.texts is not None:
        shape["texts"] = request.texts
    if request.continuation is not None:
        # its logprobs are found behind the text of the messages
        said = [(message.role, message.content) for message in request.messages]
        shape |= {"continuation": request.continuation, "messages": said, "among": request.among}
    return json.dumps(shape)


def unpack_shape(shape: str) -> Request:
    """A request that replies can be read for, of what `pack_shape` packed."""
    data = json.loads(shape)
    texts = data.get("texts")
    return Request(
        tuple(Message(role, content) for role, content in data.get("messages", ())),
        0,
        top_logprobs=data.get("top_logprobs"),
        continuation=data.get("continuation"),
        among=tuple(data.get("among", ())),
        texts=None if texts is None else tuple(texts),
    )
