"""How fast requests may follow one another: buckets of a known rate, and one whose rate is learned from refusals."""

from __future__ import annotations

from collections import deque

__all__ = ["Bucket", "LearnedPace"]

_NOTHING = 1e-9  # so little lacking is a rounding error

_BELOW = 0.97  # requests are paced a little below the rate that was found
# A rate is told from at least so many requests. Any fewer, and the count goes on to the next refusal.
_FEWEST = 3
_KEPT = 8  # measurements: the more, the less does chance decide; the fewer, the sooner a lower rate is followed
# where nearly as much as the pace went through, it was not the pace that was refused
_NEARLY = 0.97
_DROP = 0.8  # what went well for a while is not lowered by more than this at once
_SHORTEST_WAIT = 1.0  # shorter ones are the rest of a longer time, and tell no rate
# The pace grows once in so many seconds' worth of requests that had to wait for it, and not after fewer than ten.
_STEP = 1.0
_STEP_REQUESTS = 10
# The first step is small, each later one greater: the longer nothing is refused, the farther off the rate may be.
_GROWTH = 0.01
_GROWTH_IN_DOUBT = 0.08
_FASTER = 1.4
_FASTEST = 0.5
# Seconds' worth of requests that may go at once: some, so that a busy event loop does not fall behind; and the most.
_LEAST_BURST = 0.1
_LONGEST_BURST = 2.0
_BURST_BELOW = 0.9


class Bucket:
    """Fills by `rate` a second up to `size`; whoever needs more than `size` at once goes when it is full."""

    __slots__ = ("_at", "_level", "rate", "size")

    def __init__(self, rate: float, size: float, level: float, now: float) -> None:
        self.rate = rate
        self.size = size
        self._level = min(level, size)
        self._at = now

    def level(self, now: float) -> float:
        """What is in it; below zero where more was taken than there was."""
        if now > self._at:
            self._level = min(self.size, self._level + (now - self._at) * self.rate)
            self._at = now
        return self._level

    def wait(self, need: float, now: float) -> float:
        """Seconds until so much may be taken."""
        lacking = min(need, self.size) - self.level(now)
        return lacking / self.rate if lacking > _NOTHING else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take so much out; a negative amount is given back."""
        self._level = min(self.size, self.level(now) - amount)

    def begin(self, level: float, now: float) -> None:
        """Go on from what was in it at some time."""
        self._level, self._at = min(level, self.size), now


class LearnedPace:
    """The rate of a provider that does not tell it, from its refusals.

    A provider that refuses has nothing left at that moment, so between two refusals it let through what it had filled
    up with since. Those requests divided by the time between are its rate, or less than its rate where it was full
    for part of that time; the greatest of the newest few is nearest. What is found at the first refusal, when it may
    have been full to begin with, is a bound from above. Requests are paced just below what was found, and the pace
    grows for as long as nothing is refused.

    Requests are numbered in the order of sending. Times are those of sending too, for a refusal comes back much sooner
    than a reply. `bucket` is None until a refusal told something; `found` is whether a rate was found, not a bound.
    """

    def __init__(self) -> None:
        self.bucket: Bucket | None = None
        self.found = False
        # the count begins after this request, sent then; so many since were refused
        self._number = 0
        self._sent = 0.0
        self._refused = 0
        self._maybe_full = True
        self._clean = 0
        self._steps = 0
        self._growth = _GROWTH
        # the newest rates found, and how many were let through at once after a wait
        self._rates: deque[float] = deque(maxlen=_KEPT)
        self._bursts: deque[float] = deque(maxlen=_KEPT)

    def rested(self, number: int, now: float) -> None:
        """Nothing was sent for a while after request `number`, so the provider may be full."""
        self._count_from(number, now, maybe_full=True)

    def succeeded(self) -> None:
        """A request that had to wait for the pace was answered."""
        assert self.bucket is not None
        self._clean += 1
        if self._clean >= max(_STEP_REQUESTS, self.bucket.rate * _STEP):
            self._clean = 0
            self._steps += 1
            self.bucket.rate *= 1.0 + self._growth
            self._growth = min(_FASTEST, self._growth * _FASTER)

    def refused_too(self, number: int, now: float) -> None:
        """A request was refused that had been sent before the first refusal was heard."""
        if number > self._number:
            self._refused += 1
            if self.bucket is not None:
                self.bucket.take(-1.0, now)

    def refused(
        self, number: int, sent: float, newest: int, opened: float, *, wait: float, guess: float | None
    ) -> None:
        """The provider begins to refuse, with request `number` that was sent at `sent`, and asks to wait.

        `newest` is the number of the newest request, `opened` when requests were last let through after a refusal, and
        `guess` the pace to go on with where nothing can be told. However often it refuses, the pace stays at one
        request for each such wait: a provider may refuse for reasons that no pace takes away.
        """
        admitted, seconds = number - self._number - 1 - self._refused, sent - self._sent
        in_doubt = False
        if seconds > 0 and admitted >= _FEWEST:
            in_doubt = not self._maybe_full and opened - self._sent > seconds / 2
            self._measured(admitted, admitted / seconds, sent, mostly_closed=in_doubt)
            self._count_from(number, sent, maybe_full=False)
        else:
            self._refused += 1
            self._guessed(guess, sent)
        self._clean = self._steps = 0
        self._growth = _GROWTH_IN_DOUBT if in_doubt else _GROWTH
        if self.bucket is not None:
            self.bucket.rate = max(self.bucket.rate, _BELOW / max(wait, _SHORTEST_WAIT))
            # the provider was empty then, and what was sent since it has let through as far as is known yet
            self.bucket.begin(float(number - newest), sent)

    def _count_from(self, number: int, sent: float, *, maybe_full: bool) -> None:
        self._number, self._sent, self._refused, self._maybe_full = number, sent, 0, maybe_full

    def _guessed(self, guess: float | None, now: float) -> None:
        if self.bucket is None:
            if guess is not None:
                self.bucket = Bucket(guess, 1.0, 0.0, now)
        elif not self.found:
            self.bucket.rate *= _DROP

    def _measured(self, admitted: int, found: float, now: float, *, mostly_closed: bool) -> None:
        """So many a second were let through, most of them at once after a wait if it was mostly closed."""
        if self._maybe_full:
            # a bound from above
            if self.bucket is None:
                self.bucket = Bucket(found, max(1.0, _LEAST_BURST * found), 0.0, now)
            else:
                self.bucket.rate = max(min(found, self.bucket.rate), self._proven())
            return
        self._rates.append(found)
        if mostly_closed:
            self._bursts.append(_BURST_BELOW * admitted)
        # none of them is above what the provider can, so the greatest is nearest
        found = max(self._rates)
        rate = _BELOW * found
        if self.bucket is None:
            self.bucket = Bucket(rate, max(1.0, _LEAST_BURST * rate), 0.0, now)
        elif not self.found:
            self.bucket.rate = rate if mostly_closed else max(rate, self._proven())
        elif found < _NEARLY * self.bucket.rate:
            self.bucket.rate = max(rate, self._proven())
        if self._bursts:
            self.bucket.size = max(1.0, min(max(self._bursts), self.bucket.rate * _LONGEST_BURST))
        self.found = True

    def _proven(self) -> float:
        """The pace that no single refusal takes away."""
        return _DROP * self.bucket.rate if self.bucket is not None and self._steps else 0.0
