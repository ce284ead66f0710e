"""A layer that lets somebody watch: every request with its reply, remembered ones too."""

from __future__ import annotations

from collections.abc import Callable

from harness.clients.layer import Layer
from harness.clients.protocol import Client, Reply, Request

__all__ = ["Observing"]


class Observing(Layer):
    """Tells `observer` of each request and its reply."""

    def __init__(self, client: Client, observer: Callable[[Request, Reply], None]) -> None:
        super().__init__(client)
        self._observer = observer

    async def generate(self, request: Request) -> Reply:
        """Ask the client inside.

        Raises:
            ClientError: no reply.
        """
        reply = await self._client.generate(request)
        self._observer(request, reply)
        return reply
