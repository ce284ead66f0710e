"""Watches over what asks models: warns when the event loop lags, and ends it where no reply comes for too long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from harness.clients import Limits
from harness.clients.lag import watch_loop
from harness.errors import RunEnding, Starved

__all__ = ["watched"]


async def watched(
    run: Callable[[], Awaitable[None]],
    end: Callable[[RunEnding], None],
    limits: Limits,
    patience: float,
    note: Callable[[str], None],
    cure: str,
) -> None:
    """Run, `note` when the event loop lags, and `end` it when no reply has come for `patience` seconds.

    `cure` says what would let it wait longer.
    """
    failed: Exception | None = None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            end(Starved(f"{await limits.starved(patience)}; {cure}"))
            group.cancel_scope.cancel()

        group.start_soon(watch)
        group.start_soon(watch_loop, note)
        try:
            await run()
        except Exception as error:  # raised below: the group would make a group of errors of it
            failed = error
        group.cancel_scope.cancel()
    if failed is not None:
        raise failed
