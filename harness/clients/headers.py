"""What the headers of a reply say of limits: how long to wait, and how much may be sent at what rate."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

__all__ = ["HeardLimit", "Measure", "rate_limits", "retry_after", "wait_of"]

Measure = Literal["requests", "tokens", "input", "output"]

# "1m30s", "6s", "500ms" and "1h2m3.5s"
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
# a plain number beyond this many is a point in time since 1970, not a wait: a wait of three years is none
_EPOCH = 1e8
# what a limit may be meant for, in seconds
_WINDOWS = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}
_TELLING = 5  # remaining counts and times are rounded; what so many tell is hardly off
_FIELDS = ("limit", "remaining", "reset")


@dataclass(frozen=True, slots=True)
class HeardLimit:
    """A limit on requests, or on tokens (all, in or out), as a provider tells it.

    `reset` is in how many seconds all of it is there again, `window` the seconds that the limit is meant for; each is
    None where the headers do not say.
    """

    measure: Measure
    limit: float
    remaining: float
    reset: float | None = None
    window: float | None = None

    def rate(self, before: HeardLimit | None) -> float | None:
        """What comes back a second: one of the rates that the limit may mean, the one that an earlier state fits best.

        Where less remains than `before` and all is there again later, what is used comes back one by one. None where
        too little was used between to tell, or where a window begins anew at a fixed time.
        """
        if self.window is not None:
            return self.limit / self.window
        if before is None or self.reset is None or before.reset is None:
            return None
        used, longer = before.remaining - self.remaining, self.reset - before.reset
        if used < _TELLING or longer <= 0:
            return None
        measured = math.log(used / longer)
        return min(
            (self.limit / window for window in _WINDOWS.values()), key=lambda rate: abs(math.log(rate) - measured)
        )


def rate_limits(headers: Mapping[str, str], now: datetime) -> dict[str, HeardLimit]:
    """The limits that headers tell, by their names: what stands beside limit, remaining and reset.

    Read are `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, `anthropic-ratelimit-tokens-limit` and the like,
    in any order of words, in lower case. What lacks a limit or what remains, or holds no number, is left out.
    """
    told: dict[str, dict[str, str]] = {}
    for name, value in headers.items():
        words = name.split("-")
        field = next((word for word in words if word in _FIELDS), None)
        if field is not None and "ratelimit" in words:
            told.setdefault("-".join(word for word in words if word != field), {})[field] = value
    found = {name: _limit_of(name, fields, now) for name, fields in told.items()}
    return {name: limit for name, limit in found.items() if limit is not None}


def _limit_of(name: str, fields: Mapping[str, str], now: datetime) -> HeardLimit | None:
    limit, remaining = _leading(fields.get("limit", "")), _leading(fields.get("remaining", ""))
    if limit is None or remaining is None or limit <= 0:
        return None
    words = name.split("-")
    measure: Measure = "requests"
    if "tokens" in words:
        measure = "input" if "input" in words else "output" if "output" in words else "tokens"
    window = next((_WINDOWS[word] for word in words if word in _WINDOWS), None)
    return HeardLimit(measure, limit, max(0.0, remaining), wait_of(fields.get("reset", ""), now), window)


def _leading(text: str) -> float | None:
    """The number that a value such as `100` or `100, 100;w=60` begins with."""
    return _number(re.split(r"[,;\s]", text.strip(), maxsplit=1)[0])


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The wait in seconds that a refusal's headers ask for, None where they ask for none.

    `retry-after-ms` and `retry-after` (seconds, a duration, an HTTP date or an ISO 8601 time) hold before anything
    else. Without them the longest reset among the rate limits that have nothing remaining is taken.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    if (milliseconds := _number(lower.get("retry-after-ms", ""))) is not None:
        return max(milliseconds / 1000, 0.0)
    if (value := lower.get("retry-after")) is not None:
        return wait_of(value, now)
    resets = [
        wait
        for name, value in lower.items()
        if "ratelimit" in name and "reset" in name and _exhausted(lower, name) and (wait := wait_of(value, now))
    ]
    return max(resets, default=None)


def wait_of(value: str, now: datetime) -> float | None:
    """Seconds from `now`: of a number, a duration such as `1m30s`, an HTTP date or an ISO 8601 time; else None."""
    text = value.strip()
    if (number := _number(text)) is not None:
        return max(_since_epoch(number, now) if number > _EPOCH else number, 0.0)
    if text and (match := _DURATION.fullmatch(text)) is not None:
        return sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part)
    moment = _moment(text)
    return None if moment is None else max((moment - now).total_seconds(), 0.0)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _since_epoch(number: float, now: datetime) -> float:
    seconds = number / 1000 if number > _EPOCH * 1000 else number
    return seconds - now.timestamp()


def _moment(text: str) -> datetime | None:
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text)
        except ValueError:
            continue
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return None


def _exhausted(headers: Mapping[str, str], reset: str) -> bool:
    return headers.get(reset.replace("reset", "remaining"), "").strip() == "0"
