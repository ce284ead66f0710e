"""Remembered replies: what was asked and paid for once is never asked again, and equal requests share one call."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from harness.clients.layer import Layer
from harness.clients.ledger import Amount, Attempt
from harness.clients.protocol import Client, Reply, Request
from harness.clients.wire import Wire
from harness.errors import ClientError
from harness.values import Usage

__all__ = ["Keeper", "MemoryKeeper", "Replies", "request_key"]


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


def request_key(client: Client, request: Request) -> str:
    """What tells a request to a client from any other: a hash of its wire and its sample number."""
    return client.wire(request).key(request.sample)


@dataclass(slots=True, eq=False)
class _Call:
    """A request in flight and how many wait for it."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    sharers: int = 0
    task: asyncio.Task[Reply] | None = None


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
            if call is not None and call.scope.cancel_called:
                # its last sharer has left; it may still be about to keep a reply
                await _ended(call)
                continue
            return await self._share(call or self._start(key, wire, request))

    async def aclose(self) -> None:
        """Cancel what is in flight, then close the client inside."""
        for call in list(self._calls.values()):
            call.scope.cancel()
            await _ended(call)
        await super().aclose()

    def _start(self, key: str, wire: Wire, request: Request) -> _Call:
        call = self._calls[key] = _Call()
        # anyio's task groups end their tasks with the caller; this one has to outlive it for the other sharers
        call.task = asyncio.create_task(self._run(call, key, wire, request))
        return call

    async def _run(self, call: _Call, key: str, wire: Wire, request: Request) -> Reply:
        try:
            with call.scope:
                reply = await self._client.generate(request)
                with anyio.CancelScope(shield=True):
                    await self._keeper.keep(key, wire, reply)
                return reply
            raise asyncio.CancelledError  # the scope swallowed its own cancellation
        finally:
            del self._calls[key]

    async def _share(self, call: _Call) -> Reply:
        assert call.task is not None
        call.sharers += 1
        try:
            return await asyncio.shield(call.task)
        except ClientError as error:
            # one exception raised in several tasks would gather all their tracebacks
            raise copy.copy(error) from None
        finally:
            call.sharers -= 1
            if call.sharers == 0 and not call.task.done():
                call.scope.cancel()
                await _ended(call)


async def _ended(call: _Call) -> None:
    assert call.task is not None
    with anyio.CancelScope(shield=True):
        await asyncio.wait([call.task])
