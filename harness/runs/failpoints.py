"""Fail points: places where a test can have the process killed, to prove that nothing paid for is lost.

`LATENT_HARNESS_FAILPOINT=reply-committed:3` kills the process, as `kill -9` would, when it passes the point named
`reply-committed` for the third time.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections import Counter

__all__ = ["BATCH_POINTS", "POINTS", "VARIABLE", "passing"]

POINTS = ("intent-written", "reply-received", "reply-committed", "unit-committed")
# those of requests that go by batch
BATCH_POINTS = ("batch-noted", "batch-written", "batch-submitted", "batch-committed", "batch-read", "batch-settled")
VARIABLE = "LATENT_HARNESS_FAILPOINT"

_passed: Counter[str] = Counter()
_lock = threading.Lock()


def passing(point: str) -> None:
    """Say that a point is passed; kills this process if the environment asks for it."""
    name, count = _wanted()
    if name != point:
        return
    with _lock:
        _passed[point] += 1
        if _passed[point] == count:
            os.kill(os.getpid(), signal.SIGKILL)


@functools.cache
def _wanted() -> tuple[str, int]:
    """The point to be killed at, and how often it has to be passed; read once, for points are passed all the time."""
    name, _, count = os.environ.get(VARIABLE, "").partition(":")
    return name, int(count or 1)
