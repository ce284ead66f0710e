"""When a group commit waits for more: each commit costs the processor some 0.1 ms, however little is in it."""

from __future__ import annotations

import math

__all__ = ["Rhythm"]

# So many operations a second are worth gathering; a request makes three, so these are hundreds of requests.
_BUSY = 1500
_OVER = 0.1  # seconds over which they are counted
# seconds: none of hundreds of requests in flight notices such a wait
_PAUSE = 0.008
# A pause in which fewer gathered was for nothing: whoever writes waits for each commit before the next. It is not
# tried again for so many seconds.
_FEW = 8
_CALM = 1.0


class Rhythm:
    """The pause before the next group is taken; pure: times are given to it, in seconds of one clock."""

    __slots__ = ("_calm_until", "_last", "_rate", "pause")

    def __init__(self, now: float) -> None:
        self.pause = 0.0
        self._last = now
        self._rate = 0.0
        self._calm_until = now

    def gathered(self, operations: int, now: float) -> None:
        """A group of so many operations was taken, after the pause if there was one."""
        if self.pause and operations < _FEW:
            self._calm_until = now + _CALM
        self._rate = self._rate * math.exp((self._last - now) / _OVER) + operations / _OVER
        self._last = now
        self.pause = _PAUSE if self._rate >= _BUSY and now >= self._calm_until else 0.0
