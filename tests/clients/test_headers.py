from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness.clients.headers import retry_after, wait_of

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (" 3 ", 3.0),
        ("-4", 0.0),
        ("6s", 6.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1m", 60.0),
        ("1h2m3.5s", 3723.5),
        ("2d", 172_800.0),
        ("Sun, 01 Mar 2026 12:01:40 GMT", 100.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("2026-03-01T12:00:30Z", 30.0),
        ("2026-03-01T13:00:30+01:00", 30.0),
        (str(int(NOW.timestamp()) + 20), 20.0),
        (str((int(NOW.timestamp()) + 20) * 1000), 20.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1m30", None),
    ],
)
def test_a_wait_is_read_in_every_form(value: str, seconds: float | None) -> None:
    assert wait_of(value, NOW) == (None if seconds is None else pytest.approx(seconds))


def test_milliseconds_are_more_exact_than_seconds() -> None:
    assert retry_after({"Retry-After": "2", "Retry-After-Ms": "1500"}, NOW) == 1.5


def test_retry_after_holds_before_any_reset() -> None:
    headers = {"retry-after": "2", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m"}
    assert retry_after(headers, NOW) == 2.0


def test_the_longest_reset_of_what_is_used_up_is_taken() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "12s",
        "x-ratelimit-remaining-tokens": "400",
        "x-ratelimit-reset-tokens": "6m0s",
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2026-03-01T12:00:45Z",
    }
    assert retry_after(headers, NOW) == 45.0


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-reset-requests": "9s"}, {"retry-after": "later"}])
def test_without_a_hint_there_is_no_wait(headers: dict[str, str]) -> None:
    assert retry_after(headers, NOW) is None
