"""The wish to stop a run, once or twice, and the signals that carry it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

__all__ = ["Stop", "on_signals"]


class Stop:
    """A wish to stop: once asks nothing new and finishes what is in flight, twice cancels that too."""

    def __init__(self) -> None:
        self.wished = False
        self.scope = anyio.CancelScope()

    def wish(self) -> None:
        """Wish it, or wish it more."""
        if self.wished:
            self.scope.cancel()
        self.wished = True


@asynccontextmanager
async def on_signals(stop: Stop) -> AsyncIterator[None]:
    """Inside, Ctrl-C (SIGINT) and SIGTERM wish to stop; main thread only."""

    async def listen() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                stop.wish()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        yield
        group.cancel_scope.cancel()
