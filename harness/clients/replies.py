"""Remembered replies: what was asked and paid for once is never asked again, and equal requests share one call."""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from harness.clients.layer import Layer
from harness.clients.ledger import Amount, Attempt
from harness.clients.protocol import Client, Reply, Request
from harness.clients.wire import Wire
from harness.errors import ClientError
from harness.values import Usage

__all__ = ["Keeper", "MemoryKeeper", "RecentKeeper", "Replies", "request_key"]

# Bytes of vectors: those of a latent's 200 windows are 0.3 MB where an embedder's width is 384, 3 MB where it is 4096.
_RECENT = 64 * 2**20


class Keeper(Protocol):
    """Where replies are kept; a run's journal is one."""

    def get(self, key: str) -> Reply | None:
        """The remembered reply of a request, or None."""
        ...

    async def keep(self, key: str, wire: Wire, reply: Reply) -> None:
        """Commit a reply; returns when it is safe."""
        ...


class MemoryKeeper:
    """Keeps replies, and writes down attempts, for as long as the process lives.

    `attempts` holds how each ended by its id: outcome (None while it is not known) and what it counts with.
    """

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.attempts: dict[str, tuple[str | None, Amount]] = {}

    def get(self, key: str) -> Reply | None:
        """The remembered reply of a request, or None."""
        return self.replies.get(key)

    async def keep(self, key: str, wire: Wire, reply: Reply) -> None:  # noqa: ARG002 - a Keeper's shape
        """Remember a reply."""
        self.replies[key] = reply

    async def reserve(self, attempt: Attempt) -> None:
        """Write down that an attempt is about to be made."""
        self.attempts[attempt.id] = (None, attempt.reserved)

    def settle(
        self,
        attempt: Attempt,
        outcome: str,
        charged: Amount,
        usage: Usage | None,  # noqa: ARG002 - a Ledger's shape
        seconds: float,  # noqa: ARG002
    ) -> None:
        """Write down how an attempt ended."""
        self.attempts[attempt.id] = (outcome, charged)


class RecentKeeper:
    """Keeps embeddings in memory, at most `most` bytes of them; those used longest ago go first."""

    def __init__(self, most: int = _RECENT) -> None:
        self._most = most
        self._bytes = 0
        self._replies: OrderedDict[str, Reply] = OrderedDict()

    def get(self, key: str) -> Reply | None:
        """The remembered reply of a request, or None."""
        if key in self._replies:
            self._replies.move_to_end(key)
        return self._replies.get(key)

    async def keep(self, key: str, wire: Wire, reply: Reply) -> None:  # noqa: ARG002 - a Keeper's shape
        """Remember a reply, for some time."""
        self._replies[key] = reply
        self._bytes += _size(reply)
        while self._bytes > self._most:
            _, oldest = self._replies.popitem(last=False)
            self._bytes -= _size(oldest)


def _size(reply: Reply) -> int:
    return 0 if reply.vectors is None else len(reply.vectors.data)


def request_key(client: Client, request: Request) -> str:
    """What tells a request to a client from any other: a hash of its wire and its sample number."""
    return client.wire(request).key(request.sample)


@dataclass(slots=True, eq=False)
class _Call:
    """A request in flight and how many wait for it.

    `answered` once there is a reply to keep: then only its commit may end. `left` once nobody waits any more.
    """

    sharers: int = 0
    answered: bool = False
    left: bool = False
    task: asyncio.Task[Reply] = field(init=False)

    def leave(self) -> None:
        """End it, unless it has something to keep."""
        self.left = True
        if not self.answered:
            self.task.cancel()

    async def ended(self) -> None:
        """Wait for its end, whoever is cancelled meanwhile."""
        with anyio.CancelScope(shield=True):
            await asyncio.wait([self.task])


class Replies(Layer):
    """Answers from what is kept; asks the client inside for the rest and keeps what it answers.

    Every reply is kept, refusals and truncated ones too, for all were paid for; errors never are. A call runs in a
    task of its own: it goes on while anybody waits for it, and is cancelled when nobody does. What was received by
    then is kept all the same.
    """

    def __init__(self, client: Client, keeper: Keeper) -> None:
        super().__init__(client)
        self._keeper = keeper
        self._calls: dict[str, _Call] = {}

    async def generate(self, request: Request) -> Reply:
        """The kept reply of an equal request, else a new one.

        Raises:
            ClientError: no reply.
        """
        wire = self.wire(request)
        key = wire.key(request.sample)
        while True:
            if (kept := self._keeper.get(key)) is not None:
                return kept
            call = self._calls.get(key)
            if call is not None and call.left:
                # its last sharer has left; it may still be about to keep a reply
                await call.ended()
                continue
            return await self._share(call or self._start(key, wire, request))

    async def aclose(self) -> None:
        """Cancel what is in flight, then close the client inside."""
        for call in list(self._calls.values()):
            call.leave()
            await call.ended()
        await super().aclose()

    def _start(self, key: str, wire: Wire, request: Request) -> _Call:
        call = self._calls[key] = _Call()
        # anyio's task groups end their tasks with the caller; this one has to outlive it for the other sharers
        call.task = asyncio.create_task(self._run(call, key, wire, request))
        # not at the end of the task's own code, which a task that is cancelled early never begins
        call.task.add_done_callback(lambda _: self._calls.pop(key, None))
        return call

    async def _run(self, call: _Call, key: str, wire: Wire, request: Request) -> Reply:
        reply = await self._client.generate(request)
        call.answered = True
        await self._keeper.keep(key, wire, reply)
        return reply

    async def _share(self, call: _Call) -> Reply:
        call.sharers += 1
        try:
            return await asyncio.shield(call.task)
        except ClientError as error:
            # one exception raised in several tasks would gather all their tracebacks
            raise copy.copy(error) from None
        finally:
            call.sharers -= 1
            if call.sharers == 0 and not call.task.done():
                call.leave()
                await call.ended()
