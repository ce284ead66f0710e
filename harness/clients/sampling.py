"""Which of several draws of the same requests is wanted: the sample number that is added to every request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Final

from harness.clients.protocol import Request
from harness.values import seed_of

__all__ = ["MOST_SAMPLES", "again", "sampled", "sampled_within"]

# draws within a draw: with the limit no two numbers of them are equal
MOST_SAMPLES: Final = 64
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


@contextmanager
def sampled_within(number: int) -> Iterator[None]:
    """Inside it is this draw, from 0 to `MOST_SAMPLES` - 1, within the one that is wanted already.

    The first within the default one is the default one.

    Raises:
        ValueError: the number is none of these.
    """
    if not 0 <= number < MOST_SAMPLES:
        raise ValueError(f"draw {number} is none of {MOST_SAMPLES}")
    with sampled(_current.get() * MOST_SAMPLES + number):
        yield


def again(request: Request) -> Request:
    """A request as it is sent for the draw that is wanted here: with another sample number and, if any, seed.

    Where nothing is generated (embeddings, the probability of a given text) nothing is drawn: that is never asked anew.
    """
    number = _current.get()
    if not number or request.texts is not None or request.continuation is not None:
        return request
    seed = None if request.seed is None else seed_of(request.seed, "sample", number)
    return replace(request, sample=request.sample + number * _APART, seed=seed)
