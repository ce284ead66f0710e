"""The wish to stop a run, once or twice, and the signals that carry it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import anyio

__all__ = ["Stop", "on_signals"]


class Stop:
    """A wish to stop: once asks nothing new and finishes what is in flight, twice cancels that too."""

    def __init__(self) -> None:
        self.wished = False

    @cached_property
    def scope(self) -> anyio.CancelScope:
        """What the second wish cancels; first used inside the event loop, for outside of it there are no scopes."""
        return anyio.CancelScope()

    def wish(self) -> None:
        """Wish it, or wish it more; in the event loop's thread."""
        if self.wished:
            self.scope.cancel()
        self.wished = True


@contextmanager
def on_signals(stop: Stop) -> Iterator[None]:
    """Inside, Ctrl-C (SIGINT) and SIGTERM wish to stop; in a running event loop in the main thread only."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop.wish)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
