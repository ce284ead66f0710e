"""Time for tests: it stands still while anybody works and jumps to the next wake-up when all sleep."""

from __future__ import annotations

import asyncio
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
        self._left: set[int] = set()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has moved on by so much."""
        event = anyio.Event()
        order = next(self._order)
        heapq.heappush(self._waking, (self.now + seconds, order, event))
        try:
            await event.wait()
        except BaseException:
            # nobody waits for that moment any more, so the clock need not stop there
            if not event.is_set():
                self._left.add(order)
            raise

    async def run(self) -> None:
        """Move the clock, until cancelled."""
        while True:
            await _all_asleep()
            if self._waking:
                moment, order, event = heapq.heappop(self._waking)
                if order in self._left:
                    self._left.remove(order)
                    continue
                self.now = max(self.now, moment)
                event.set()
            await anyio.lowlevel.checkpoint()


async def _all_asleep() -> None:
    """Let the other tasks run until none can."""
    # callbacks that the loop is about to run; anyio's own way sleeps a tenth of a real second between two looks
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    if ready is None:
        await anyio.wait_all_tasks_blocked()
        return
    await anyio.lowlevel.checkpoint()
    while ready:
        await anyio.lowlevel.checkpoint()
