"""Chat messages, as every provider takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str
