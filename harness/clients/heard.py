"""A bucket as a provider's headers tell it, brought up to date by each of its replies."""

from __future__ import annotations

from harness.clients.headers import HeardLimit
from harness.clients.pace import Bucket

__all__ = ["HeardBucket"]

_MINUTE = 60.0
# of the rate told: clocks, and the windows that providers count in, do not agree to the last request
_BELOW = 0.98
_RESERVE = 0.02  # of what remains: it is old news when it gets here


class HeardBucket(Bucket):
    """Starts as a limit for a minute, which most are, until the replies tell how soon what is used comes back.

    A reply tells what was left when the provider took its request, or when it sent the reply: which of the two is not
    known. What should have been left by this bucket is noted as a mark when a request is sent. The two readings give
    two levels for now; a level between them may be right and is left alone, any other becomes the nearer of the two.
    """

    __slots__ = ("_corrected", "_fullest")

    def __init__(self, told: HeardLimit, sent_since: int, now: float) -> None:
        left = _left(told) - sent_since if told.measure == "requests" else _left(told)
        super().__init__(_BELOW * told.limit / (told.window or _MINUTE), told.limit, left, now)
        self._corrected = 0.0
        self._fullest = told

    def mark(self, now: float) -> float:
        """What a request that is sent now should be told to be left, less all corrections till now."""
        return self.level(now) - self._corrected

    def hear(self, told: HeardLimit, mark: float, now: float) -> None:
        """What the reply to a request with that mark tells."""
        rate = told.rate(self._fullest)
        if rate is not None:
            self.rate = _BELOW * rate
        if told.remaining >= self._fullest.remaining:
            self._fullest = told
        self.size = told.limit
        level, left = self.level(now), _left(told)
        readings = (level + left - (mark + self._corrected), left)
        change = min(max(level, min(readings)), max(readings)) - level
        self._corrected += change
        self.take(-change, now)


def _left(told: HeardLimit) -> float:
    return told.remaining - max(1.0, _RESERVE * told.remaining) if told.limit > 1 else told.remaining
