"""What every layer around a client passes on unchanged."""

from __future__ import annotations

from harness.clients.protocol import Capabilities, Client, Request
from harness.clients.wire import Wire

__all__ = ["Layer"]


class Layer:
    """A client around another; subclasses give `generate`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.name = client.name

    @property
    def capabilities(self) -> Capabilities:
        """What the client inside can do, as far as is known by now."""
        return self._client.capabilities

    def wire(self, request: Request) -> Wire:
        """The exact request as the provider's client would send it."""
        return self._client.wire(request)

    async def aclose(self) -> None:
        """Close the client inside."""
        await self._client.aclose()
