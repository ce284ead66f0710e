"""The layer closest to a provider that sends nothing once the run is stopping."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from harness.clients.layer import Layer
from harness.clients.protocol import Client, Reply, Request
from harness.errors import Drained

__all__ = ["Draining", "pausing"]

_LOOK = 0.25  # seconds between two looks at whether the run is stopping


class Draining(Layer):
    """Passes requests on until `stopping()` is true; what was sent before still gets its reply."""

    def __init__(self, client: Client, stopping: Callable[[], bool]) -> None:
        super().__init__(client)
        self._stopping = stopping

    async def generate(self, request: Request) -> Reply:
        """Ask the client inside.

        Raises:
            Drained: the run is stopping.
            ClientError: no reply.
        """
        if self._stopping():
            raise Drained("the run is stopping", model=self.name)
        return await self._client.generate(request)


def pausing(stopping: Callable[[], bool]) -> Callable[[float], Awaitable[None]]:
    """A sleep that ends early once `stopping()` is true, so that nobody sits out a minute's back-off at the end."""

    async def pause(seconds: float) -> None:
        end = anyio.current_time() + seconds
        while (left := end - anyio.current_time()) > 0 and not stopping():  # noqa: ASYNC110 - a flag, set by a signal
            await anyio.sleep(min(left, _LOOK))

    return pause
