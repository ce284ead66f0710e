from __future__ import annotations

import anyio
import pytest

from harness.clients.lag import watch_loop
from harness.testing import VirtualClock

pytestmark = pytest.mark.anyio


async def test_a_loop_that_lags_is_told_of_at_most_once_a_minute(clock: VirtualClock) -> None:
    warnings: list[tuple[float, str]] = []
    late = {3: 1.3, 7: 4.0, 8: 2.0, 300: 1.0}  # seconds too late, by the number of the sleep
    sleeps = 0

    async def sleep(seconds: float) -> None:
        nonlocal sleeps
        sleeps += 1
        await clock.sleep(seconds + late.get(sleeps, 0.0))

    async with anyio.create_task_group() as group:
        group.start_soon(clock.run)
        group.start_soon(lambda: watch_loop(lambda told: warnings.append((clock(), told)), sleep=sleep, clock=clock))
        await clock.sleep(300.0)
        group.cancel_scope.cancel()
    assert [told.split(":")[0] for _, told in warnings] == [
        "the event loop lags by 1.3 s",
        "the event loop lags by 4.0 s",
    ]
    assert warnings[1][0] - warnings[0][0] >= 60.0
