"""Time for tests: it stands still while anybody works and jumps to the next wake-up when all sleep."""

from __future__ import annotations

import heapq
import itertools

import anyio
import anyio.lowlevel

__all__ = ["VirtualClock"]


class VirtualClock:
    """A clock (called, it gives the time in seconds) with a `sleep`; `run` has to be running in a task beside."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waking: list[tuple[float, int, anyio.Event]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has moved on by so much."""
        event = anyio.Event()
        heapq.heappush(self._waking, (self.now + seconds, next(self._order), event))
        await event.wait()

    async def run(self) -> None:
        """Move the clock, until cancelled."""
        while True:
            await anyio.wait_all_tasks_blocked()
            if self._waking:
                self.now, _, event = heapq.heappop(self._waking)
                event.set()
            await anyio.lowlevel.checkpoint()
