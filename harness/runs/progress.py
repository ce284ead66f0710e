"""Who is told how a run goes on: one small protocol, and one that listens to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from harness.clients.ledger import Amount
from harness.values import Status

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Told what happens, always from the event loop's thread or, while collecting, from one other thread."""

    def note(self, text: str) -> None:
        """One line that a person should read."""
        ...

    def collecting(self, done: int, total: int) -> None:
        """Tokens collected so far, of so many."""
        ...

    def begin(self, latents: int, units: int, spent: Callable[[], Amount]) -> None:
        """Explaining and scoring begin; so many are to do. `spent()` tells at any time what was charged so far."""
        ...

    def unit(self, status: Status) -> None:
        """A unit is done, now or in an earlier run."""
        ...

    def latent(self) -> None:
        """All units of a latent are done."""
        ...


class Silent:
    """Listens to nothing."""

    def note(self, text: str) -> None:
        """One line that a person should read."""

    def collecting(self, done: int, total: int) -> None:
        """Tokens collected so far, of so many."""

    def begin(self, latents: int, units: int, spent: Callable[[], Amount]) -> None:
        """Explaining and scoring begin; so many are to do."""

    def unit(self, status: Status) -> None:
        """A unit is done, now or in an earlier run."""

    def latent(self) -> None:
        """All units of a latent are done."""
