"""What a dialect is: how a protocol writes a request and reads a reply; and the texts in these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from harness.clients.protocol import Capabilities, Reply, Request

__all__ = ["Dialect", "joined", "plain"]


class Dialect(Protocol):
    """How a protocol writes a request and reads a reply; pure.

    `path` follows the base URL, `model` is the provider's name of the model.
    """

    @property
    def path(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body; equal requests give equal bodies with their keys in the same order.

        Raises:
            MissingLogprobs: logprobs are asked for and the model gives none.
        """
        ...

    def decode(self, content: bytes) -> Mapping[str, Any]:
        """A body's JSON, no more of it than `reply` needs.

        Raises:
            ValueError: it is no JSON, or no JSON that can be a reply.
        """
        ...

    def reply(self, data: Mapping[str, Any], request: Request) -> Reply:
        """The reply in what `decode` gave.

        Raises:
            MissingLogprobs: it lacks the logprobs that were asked for.
            KeyError, TypeError, ValueError, IndexError, AttributeError: it is no reply.
        """
        ...


def plain(text: str) -> str:
    """The text with U+FFFD for lone surrogates (half a character of a token), which UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def joined(parts: Sequence[Any]) -> str:
    """The text of a message's parts."""
    return "".join(part["text"] for part in parts if isinstance(part, Mapping) and part.get("type") == "text")
