"""A request as a client asks it of a model that several share."""

from __future__ import annotations

from dataclasses import dataclass

from harness.clients.protocol import Request

__all__ = ["Asked", "How"]


@dataclass(frozen=True, slots=True)
class How:
    """How one client asks: its `name`, whether by the `chat` template, and limits.

    `context` is in tokens, None for none; `rows` is the most of a batch, `room` the most tokens of one with padding.
    `threads` is torch's number of CPU threads for a batch that this client's request opens, None leaves torch's choice.
    """

    name: str
    chat: bool
    context: int | None
    rows: int
    room: int
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and how it is asked."""

    request: Request
    how: How
