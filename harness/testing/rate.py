"""How many requests the fake provider takes: a token bucket, and how it tells those beyond it to wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

__all__ = ["Bucket", "Level", "Rate", "RetryForm", "duration", "retry_headers"]

RetryForm = Literal["seconds", "decimals", "milliseconds", "date", "iso", "duration", "none"]


@dataclass(frozen=True, slots=True)
class Rate:
    """A provider's rate limit, for all of its callers together.

    `requests` a second are taken for long, `burst` at once after a pause; what is beyond is answered with 429 and a
    Retry-After written in `form`. `tokens` a second (`token_burst` at once; a minute's worth where None) are limited
    too where they are given: a request counts with its prompt and the most tokens it asks for. With `headers` every
    reply tells the limits as the protocol's provider does: those of a minute, what the bucket holds, and when it will
    be full again.

    Raises:
        ValueError: a rate or a burst is not positive.
    """

    requests: float
    burst: float = 1.0
    form: RetryForm = "seconds"
    headers: bool = False
    tokens: float | None = None
    token_burst: float | None = None

    def __post_init__(self) -> None:
        if self.requests <= 0 or self.burst < 1:
            raise ValueError(f"a rate has to be above 0 and a burst at least 1, not {self.requests} and {self.burst}")
        if (self.tokens is not None and self.tokens <= 0) or (self.token_burst is not None and self.token_burst <= 0):
            raise ValueError("tokens and token_burst have to be above 0")


@dataclass(frozen=True, slots=True)
class Level:
    """How full a bucket is: what it takes a minute, what it holds, and in how many seconds it is full again."""

    minute: float
    remaining: float
    reset: float


class Bucket:
    """What is left of a rate, by a clock in seconds."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests = _Fill(rate.requests, rate.burst)
        self._tokens = None if rate.tokens is None else _Fill(rate.tokens, rate.token_burst or rate.tokens * 60)
        self._then = clock()

    def take(self, tokens: float = 0.0) -> float:
        """Take a request of so many tokens out of the bucket; the seconds to wait where it holds too little, else 0.

        What is refused takes nothing. A request of more tokens than the bucket can ever hold needs a full one.
        """
        now = self._clock()
        passed, self._then = now - self._then, now
        fills = [(self._requests, 1.0)]
        if self._tokens is not None:
            fills.append((self._tokens, min(tokens, self._tokens.burst)))
        waits = [fill.wait(passed, amount) for fill, amount in fills]
        if (wait := max(waits)) > 0:
            return wait
        for fill, amount in fills:
            fill.held -= amount
        return 0.0

    def levels(self) -> dict[str, Level]:
        """How full the buckets for `requests`, and `tokens` where they are limited, were at the last request."""
        levels = {"requests": self._requests.level()}
        if self._tokens is not None:
            levels["tokens"] = self._tokens.level()
        return levels


class _Fill:
    """One quantity: it fills at `rate` a second up to `burst`."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = self.held = burst

    def wait(self, passed: float, amount: float) -> float:
        """Fill for so many seconds; how many more it takes until it holds the amount."""
        self.held = min(self.burst, self.held + passed * self.rate)
        # what rounding left out of a wait that was sat out is no reason to wait again
        return 0.0 if self.held >= amount - 1e-9 else (amount - self.held) / self.rate

    def level(self) -> Level:
        return Level(self.rate * 60, max(self.held, 0.0), (self.burst - self.held) / self.rate)


def retry_headers(wait: float, form: RetryForm, now: datetime | None = None) -> dict[str, str]:
    """The headers that ask for a wait of so many seconds.

    `seconds` are whole ones, rounded up and at least 1; `date` is an HTTP date, whole seconds too; `iso` an ISO 8601
    time; `duration` like `1m30s`; `milliseconds` stand in a header of their own; `none` asks for nothing.
    """
    now = now or datetime.now(UTC)
    match form:
        case "seconds":
            return {"retry-after": str(max(1, math.ceil(wait)))}
        case "decimals":
            return {"retry-after": f"{wait:.3f}"}
        case "milliseconds":
            return {"retry-after-ms": str(math.ceil(wait * 1000))}
        case "date":
            moment = now + timedelta(seconds=wait)
            whole = moment.replace(microsecond=0)
            return {"retry-after": format_datetime(whole + timedelta(seconds=int(moment > whole)), usegmt=True)}
        case "iso":
            return {"retry-after": (now + timedelta(seconds=wait)).isoformat()}
        case "duration":
            return {"retry-after": duration(wait)}
        case "none":
            return {}


def duration(seconds: float) -> str:
    """Seconds in the form `1m30s`, `6s` or `500ms`, rounded up to milliseconds."""
    milliseconds = math.ceil(seconds * 1000 - 1e-6)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if hours or minutes else "", f"{rest / 1000:g}s"]
    return "".join(parts)
