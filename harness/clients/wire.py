"""A request as it is sent: where to and which bytes; what a request is known by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Wire"]


@dataclass(frozen=True, slots=True)
class Wire:
    """An address and a body of JSON as UTF-8, without any key; equal requests have equal bytes."""

    url: str
    path: str
    body: bytes

    @classmethod
    def of(cls, body: Mapping[str, Any], url: str = "", path: str = "") -> Wire:
        """The wire of a JSON-able body.

        Its keys stay in the order given: a client writes equal requests in the same order.

        Raises:
            ValueError: the body holds NaN or an infinity, which JSON cannot.
        """
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return cls(url, path, text.encode("utf-8", "surrogatepass"))

    def key(self, sample: int) -> str:
        """What tells a request from any other: the SHA-256, in hex, of address, body and sample number."""
        hashed = hashlib.sha256(f"2\n{self.url}\n{self.path}\n{sample}\n".encode())
        hashed.update(self.body)
        return hashed.hexdigest()

    def json(self) -> bytes:
        """All of it as JSON."""
        place = json.dumps({"url": self.url, "path": self.path})
        return b"".join((place[:-1].encode(), b', "body": ', self.body, b"}"))

    def data(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        return json.loads(self.json().decode("utf-8", "surrogatepass"))
