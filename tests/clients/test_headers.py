from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness.clients.headers import HeardLimit, rate_limits, retry_after, wait_of

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


def test_limits_are_read_in_the_words_of_each_provider() -> None:
    headers = {
        "content-type": "application/json",
        "x-ratelimit-limit-requests": "6000",
        "x-ratelimit-remaining-requests": "5999",
        "x-ratelimit-reset-requests": "10ms",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6ms",
        "anthropic-ratelimit-input-tokens-limit": "30000",
        "anthropic-ratelimit-input-tokens-remaining": "29000",
        "anthropic-ratelimit-input-tokens-reset": "2026-03-01T12:00:02Z",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "8000",
        "x-ratelimit-limit-requests-day": "1000",
        "x-ratelimit-remaining-requests-day": "990",
    }
    assert rate_limits(headers, NOW) == {
        "x-ratelimit-requests": HeardLimit("requests", 6000, 5999, pytest.approx(0.01)),
        "x-ratelimit-tokens": HeardLimit("tokens", 150_000, 149_984, pytest.approx(0.006)),
        "anthropic-ratelimit-input-tokens": HeardLimit("input", 30_000, 29_000, 2.0),
        "anthropic-ratelimit-output-tokens": HeardLimit("output", 8_000, 8_000),
        "x-ratelimit-requests-day": HeardLimit("requests", 1000, 990, None, 86_400.0),
    }


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "7", "ratelimit-reset": "30"}, (100, 7, 30.0)),
        ({"x-ratelimit-limit": "20", "x-ratelimit-remaining": "-1"}, (20, 0, None)),
        ({"x-ratelimit-limit-requests": "60"}, None),
        ({"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "1"}, None),
        ({"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"}, None),
        ({"x-limit": "3", "x-remaining": "2"}, None),
    ],
)
def test_what_is_no_limit_is_left_out(headers: dict[str, str], found: tuple[float, float, float | None] | None) -> None:
    limits = list(rate_limits(headers, NOW).values())
    assert limits == ([] if found is None else [HeardLimit("requests", *found)])


@pytest.mark.parametrize(
    ("limit", "used", "later", "rate"),
    [
        (6_000, 50, 0.5, 100.0),  # a minute's, though the provider holds but a few at once
        (100, 50, 0.5, 100.0),  # a second's
        (14_400, 30, 180.0, 14_400 / 86_400),  # a day's
        (50, 10, 12.0, 50 / 60),
        (50, 10, 13.4, 50 / 60),  # rounded
        (50, 4, 5.0, None),  # too few to tell
        (50, 10, 0.0, None),
        (50, 10, -9.0, None),  # a window that ends at a fixed time
    ],
)
def test_a_rate_is_told_by_how_soon_what_is_used_comes_back(
    limit: float, used: float, later: float, rate: float | None
) -> None:
    before = HeardLimit("requests", limit, limit - 1, 1.0)
    assert HeardLimit("requests", limit, limit - 1 - used, 1.0 + later).rate(before) == (
        None if rate is None else pytest.approx(rate)
    )
    assert HeardLimit("requests", 120, 60, None, 60.0).rate(None) == 2.0
