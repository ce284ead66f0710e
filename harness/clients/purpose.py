"""On whose behalf requests are sent: the stage, arm and latent that the ledger books them under."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Purpose", "on_behalf", "purpose"]


@dataclass(frozen=True, slots=True)
class Purpose:
    """For whom: `arm` is an arm's digest, `latent` an index within its coder.

    `stage` is `explain`, `score`, `probe` or, where a judge is qualified, `judge`: the arm is then a scorer's identity
    and the latent one of its planted sets.
    """

    stage: str = ""
    arm: str = ""
    latent: int | None = None


_NOBODY = Purpose()
_current: ContextVar[Purpose] = ContextVar("purpose", default=_NOBODY)


def purpose() -> Purpose:
    """The purpose of what is done now, in this task."""
    return _current.get()


@contextmanager
def on_behalf(of: Purpose) -> Iterator[None]:
    """Inside, and in all tasks started inside, requests are booked under this purpose."""
    token = _current.set(of)
    try:
        yield
    finally:
        _current.reset(token)
