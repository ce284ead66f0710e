from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import httpx2
import pytest

from harness.clients.headers import retry_after
from harness.testing import FakeProvider, ProviderProcess, Rate
from harness.testing.rate import Bucket, RetryForm, duration, retry_headers

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
NOW = datetime(2026, 5, 4, 12, 0, 0, 250_000, tzinfo=UTC)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_burst_is_taken_and_then_the_rate() -> None:
    clock = Clock()
    bucket = Bucket(Rate(10, 3), clock)
    assert [bucket.take() for _ in range(3)] == [0, 0, 0]
    assert bucket.take() == pytest.approx(0.1)
    assert bucket.take() == pytest.approx(0.1)  # what is refused takes nothing
    clock.now += 0.1
    assert bucket.take() == 0
    clock.now += 60
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]


async def test_tokens_are_limited_beside_requests() -> None:
    clock = Clock()
    bucket = Bucket(Rate(1000, 1000, tokens=100, token_burst=200), clock)
    assert bucket.take(150) == 0
    assert bucket.take(100) == pytest.approx(0.5)
    assert bucket.take(50) == 0
    assert bucket.levels()["tokens"].reset == pytest.approx(2)
    clock.now += 2
    assert bucket.take(10_000) == 0  # more than it ever holds: a full bucket will do
    assert Bucket(Rate(1, tokens=5), clock).levels()["tokens"].remaining == 300


@pytest.mark.parametrize("rate", [{"requests": 0}, {"requests": 1, "burst": 0.5}, {"requests": 1, "tokens": 0}])
async def test_a_rate_that_lets_nothing_through_is_refused(rate: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"ha(ve|s) to be above 0"):
        Rate(**rate)  # type: ignore[arg-type] - test data


@pytest.mark.parametrize("form", [form for form in get_args(RetryForm) if form != "none"])
@pytest.mark.parametrize("wait", [0.004, 0.75, 1.0, 90.0])
async def test_a_wait_in_any_form_is_read_as_at_least_as_long_and_not_much_longer(form: RetryForm, wait: float) -> None:
    read = retry_after(retry_headers(wait, form, NOW), NOW)
    assert read is not None
    assert wait - 1e-6 <= read <= wait + (1 if form in ("seconds", "date") else 0.001)


async def test_how_a_wait_is_written() -> None:
    assert retry_headers(0.2, "seconds") == {"retry-after": "1"}
    assert retry_headers(1.2, "seconds") == {"retry-after": "2"}
    assert retry_headers(0.25, "milliseconds") == {"retry-after-ms": "250"}
    assert retry_headers(2, "date", NOW) == {"retry-after": "Mon, 04 May 2026 12:00:03 GMT"}
    assert retry_headers(2, "none") == {}
    assert [duration(seconds) for seconds in (0.5, 6, 90, 3661.5)] == ["500ms", "6s", "1m30s", "1h1m1.5s"]


async def test_requests_beyond_the_rate_are_told_to_come_back() -> None:
    async with FakeProvider(rate=Rate(0.5, 2)) as provider, httpx2.AsyncClient(trust_env=False) as client:
        answers = [await client.post(f"{provider.openai_url}/chat/completions", json=CHAT) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after"] == "2"
    assert not any("ratelimit" in name for name in answers[0].headers)


async def test_each_protocol_tells_the_limits_in_its_own_headers() -> None:
    rate = Rate(100, 10, headers=True, tokens=1000)
    async with FakeProvider(rate=rate) as provider, httpx2.AsyncClient(trust_env=False) as client:
        chat = (await client.post(f"{provider.openai_url}/chat/completions", json=CHAT)).headers
        message = (await client.post(f"{provider.url}/v1/messages", json=CHAT)).headers
    assert chat["x-ratelimit-limit-requests"] == "6000"
    assert chat["x-ratelimit-remaining-requests"] == "9"
    assert chat["x-ratelimit-reset-requests"] == "10ms"
    assert chat["x-ratelimit-limit-tokens"] == "60000"
    assert int(message["anthropic-ratelimit-tokens-remaining"]) < 60_000
    reset = datetime.fromisoformat(message["anthropic-ratelimit-requests-reset"])
    assert timedelta(seconds=-60) < reset - datetime.now(UTC) < timedelta(seconds=1)


async def test_the_rate_is_given_on_the_command_line() -> None:
    arguments = ("--rate", "0.1", "--burst", "1", "--rate-headers", "--retry-after", "duration")
    with ProviderProcess(*arguments) as provider:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answers = [await client.post(f"{provider.openai_url}/chat/completions", json=CHAT) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["retry-after"].startswith("9.")
    assert answers[1].headers["x-ratelimit-remaining-requests"] == "0"
