"""How long a provider asks us to wait, out of the headers of its reply."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["retry_after", "wait_of"]

# "1m30s", "6s", "500ms" and "1h2m3.5s"
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
# a plain number beyond this many is a point in time since 1970, not a wait: a wait of three years is none
_EPOCH = 1e8


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
