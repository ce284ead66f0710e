"""Several questions at the same time, whose replies are all kept before an error that ends the run is raised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from harness.errors import Drained, HarnessError, RunEnding, UserError

__all__ = ["together"]

T = TypeVar("T")


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
