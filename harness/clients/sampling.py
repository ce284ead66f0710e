"""Which of several draws of the same requests is wanted: the sample number that is added to every request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from harness.clients.protocol import Request
from harness.values import seed_of

__all__ = ["again", "sampled"]

# more than any explainer or scorer asks of one request by itself
_APART = 1_000_000
_current: ContextVar[int] = ContextVar("sample", default=0)


@contextmanager
def sampled(number: int) -> Iterator[None]:
    """Inside, and in all tasks started inside, what is generated is this draw of it; 0 is what is drawn by default."""
    token = _current.set(number)
    try:
        yield
    finally:
        _current.reset(token)


def again(request: Request) -> Request:
    """A request as it is sent for the draw that is wanted here: with another sample number and, if any, seed.

    Where nothing is generated (embeddings, the probability of a given text) nothing is drawn: that is never asked anew.
    """
    number = _current.get()
    if not number or request.texts is not None or request.continuation is not None:
        return request
    seed = None if request.seed is None else seed_of(request.seed, "sample", number)
    return replace(request, sample=request.sample + number * _APART, seed=seed)
