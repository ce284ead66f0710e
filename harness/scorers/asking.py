"""Several questions at the same time: all replies are kept before an error ends the run; and what they cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import anyio

from harness.errors import Drained, HarnessError, RunEnding, UserError
from harness.values import Usage

__all__ = ["Costing", "paid", "together"]

T = TypeVar("T")


class Costing(Protocol):
    """A piece of work that rests on replies, by their keys, and what these cost."""

    @property
    def replies(self) -> tuple[str, ...]: ...

    @property
    def usage(self) -> Usage: ...


async def together(jobs: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """What the jobs give, in their order.

    Raises:
        RunEnding, Drained, UserError: the first that a job raised, once all have ended.
    """
    done: dict[int, T] = {}
    stopped: list[HarnessError] = []

    async def one(index: int) -> None:
        # such an error ends the run, but not before the replies to the questions beside it, paid for, are kept
        try:
            done[index] = await jobs[index]()
        except (RunEnding, Drained, UserError) as error:
            stopped.append(error)

    async with anyio.create_task_group() as group:
        for index in range(len(jobs)):
            group.start_soon(one, index)
    if stopped:
        raise stopped[0]
    return [done[index] for index in range(len(jobs))]


def paid(pieces: Iterable[Costing]) -> tuple[tuple[str, ...], Usage]:
    """What pieces of work rest on, each reply once, and what they cost together."""
    pieces = tuple(pieces)
    keys = dict.fromkeys(key for piece in pieces for key in piece.replies)
    return tuple(keys), sum((piece.usage for piece in pieces), Usage())
