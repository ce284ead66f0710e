"""Watches whether the event loop keeps up: one that does not makes connections time out and replies look slow."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

import anyio

__all__ = ["watch_loop"]


async def watch_loop(
    warn: Callable[[str], None],
    *,
    threshold: float = 1.0,
    every: float = 0.5,
    quiet: float = 60.0,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> NoReturn:
    """Call `warn` when a sleep of `every` seconds takes over `threshold` seconds longer; runs until cancelled.

    At most one warning in `quiet` seconds, which names the longest lag since the one before.
    """
    silent_until = clock()
    worst = 0.0
    while True:
        began = clock()
        await sleep(every)
        now = clock()
        worst = max(worst, now - began - every)
        if worst > threshold and now >= silent_until:
            warn(
                f"the event loop lags by {worst:.1f} s: something computes in it or the machine is overloaded; "
                "fewer requests at once may help"
            )
            silent_until, worst = now + quiet, 0.0
