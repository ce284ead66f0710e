"""The whole policy, retries and limits together, against simulated providers on a virtual clock."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio
import pytest

from harness.clients import Limits, Reply, Request
from harness.clients.limit import Limit
from harness.clients.retry import Retry, RetryPolicy
from harness.clients.throttle import Outcome, Throttle
from harness.errors import RateLimited
from harness.testing import MockClient, VirtualClock
from harness.values import Usage

pytestmark = pytest.mark.anyio

Ask = Callable[..., Request]


@dataclass
class Simulated(MockClient):
    """A token bucket of one second's requests, full at first; each answer takes `latency`, half of it on the way in.

    It says to come back after whole seconds, or nothing where `hint` is false. With `headers` it tells that limit
    and what was left when the request came, or `told_late` when the reply goes.
    Where it has only so many `places`, a request takes one for all of its latency and is refused at once without one.
    `noise` is the share of requests that it refuses at once for no reason.
    """

    clock: VirtualClock
    rate: float
    latency: float
    hint: bool = True
    headers: int = 0
    told_late: bool = False
    places: int = 1_000_000
    noise: float = 0.0
    heard: Callable[[Mapping[str, str]], None] | None = None
    refused: int = 0
    answered: int = 0
    peak: int = 0
    _level: float = field(init=False)
    _at: float = 0.0
    _inside: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        self._level = self.rate

    async def generate(self, request: Request) -> Reply:
        if self._inside >= self.places or random.random() < self.noise:
            raise self._refusal()
        self._inside += 1
        self.peak = max(self.peak, self._inside)
        try:
            await self.clock.sleep(self.latency / 2)
            served, told = self._take()
            await self.clock.sleep(self.latency / 2)
        finally:
            self._inside -= 1
        if self.headers and self.heard is not None:
            self.heard(self._told() if self.told_late else told)
        if not served:
            raise self._refusal()
        self.answered += 1
        return Reply("ok", "stop", Usage(input=1, output=1, requests=1))

    def _take(self) -> tuple[bool, dict[str, str]]:
        self._fill()
        served = self._level >= 1
        self._level -= served
        return served, self._told()

    def _fill(self) -> None:
        now = self.clock()
        self._level = min(self.rate, self._level + (now - self._at) * self.rate)
        self._at = now

    def _refusal(self) -> RateLimited:
        self.refused += 1
        wait = (1 - self._level) / self.rate
        return RateLimited("slow down", status=429, retry_after=float(max(1, math.ceil(wait))) if self.hint else None)

    def _told(self) -> dict[str, str]:
        self._fill()
        return {
            "x-ratelimit-limit-requests": f"{self.headers}",
            "x-ratelimit-remaining-requests": f"{math.floor(self._level)}",
            "x-ratelimit-reset-requests": f"{(self.rate - self._level) / self.rate:.3f}s",
        }


def layered(provider: Simulated, most: int = 500, per_minute: float | None = None) -> Retry:
    clock = provider.clock
    limits = Limits(most, sleep=clock.sleep, clock=clock)
    gate = limits.gate("account", "model", requests_per_minute=per_minute)
    limit = Limit(provider, gate, limits.breaker("account"), clock=clock)
    return Retry(limit, RetryPolicy(), sleep=clock.sleep, clock=clock)


async def run(provider: Simulated, requests: int, ask: Ask, most: int = 500, per_minute: float | None = None) -> float:
    """Want all at once; the seconds until the last reply."""
    clock = provider.clock
    client = layered(provider, most, per_minute)
    async with anyio.create_task_group() as outer:
        outer.start_soon(clock.run)
        async with anyio.create_task_group() as group:
            for _ in range(requests):
                group.start_soon(client.generate, ask())
        outer.cancel_scope.cancel()
    return clock()


@pytest.mark.parametrize(
    ("rate", "latency", "requests", "slack"),
    [
        (100, 0.05, 2_000, 1.06),
        (100, 0.005, 2_000, 1.06),
        (100, 0.5, 2_000, 1.2),
        (20, 0.05, 2_000, 1.06),
        (20, 0.5, 2_000, 1.12),
        pytest.param(1_000, 0.05, 20_000, 1.06, marks=pytest.mark.slow),
    ],
)
async def test_a_provider_that_tells_no_rate_is_used_to_the_full(
    rate: int, latency: float, requests: int, slack: float, ask: Ask, clock: VirtualClock
) -> None:
    provider = Simulated(clock, rate, latency)
    seconds = await run(provider, requests, ask)
    assert provider.answered == requests
    assert seconds <= slack * (requests - rate) / rate + latency
    assert provider.refused <= 0.05 * (provider.refused + requests)


async def test_a_run_of_the_same_requests_goes_the_same_way(ask: Ask) -> None:
    found = set()
    for _ in range(2):
        random.seed(7)  # the jitter of the retries
        provider = Simulated(VirtualClock(), 50, 0.05)
        found.add((await run(provider, 500, ask), provider.refused))
    assert len(found) == 1


@pytest.mark.parametrize("latency", [0.005, 0.05, 0.5])
async def test_a_known_rate_is_kept_to_without_a_refusal(latency: float, ask: Ask, clock: VirtualClock) -> None:
    provider = Simulated(clock, 100, latency)
    seconds = await run(provider, 2_000, ask, per_minute=6_000)
    assert provider.refused == 0
    assert provider.answered == 2_000
    assert seconds <= 1.08 * 19 + latency


@pytest.mark.parametrize(
    ("latency", "told_late"), [(0.005, False), (0.05, False), (0.5, False), (0.005, True), (0.05, True)]
)
@pytest.mark.parametrize("limit", [100, 6_000])
async def test_a_rate_that_headers_tell_is_kept_to_without_a_refusal(
    latency: float, told_late: bool, limit: int, ask: Ask, clock: VirtualClock
) -> None:
    provider = Simulated(clock, 100, latency, headers=limit, told_late=told_late)
    seconds = await run(provider, 2_000, ask)
    assert provider.refused == 0
    assert provider.answered == 2_000
    assert seconds <= 1.08 * 19 + 2 * latency


async def test_headers_that_leave_out_requests_on_their_way_lead_to_few_refusals(ask: Ask, clock: VirtualClock) -> None:
    provider = Simulated(clock, 100, 0.5, headers=6_000, told_late=True)
    seconds = await run(provider, 2_000, ask)
    assert provider.refused <= 10
    assert provider.answered == 2_000
    assert seconds <= 1.25 * 19


async def test_refusals_that_name_no_wait_are_learned_from_too(ask: Ask, clock: VirtualClock) -> None:
    provider = Simulated(clock, 100, 0.05, hint=False)
    seconds = await run(provider, 2_000, ask)
    assert provider.answered == 2_000
    assert seconds <= 1.12 * 19
    assert provider.refused <= 0.05 * (provider.refused + 2_000)


async def test_a_server_of_few_places_is_kept_busy(ask: Ask, clock: VirtualClock) -> None:
    provider = Simulated(clock, 1_000_000, 0.5, hint=False, places=40)
    seconds = await run(provider, 2_000, ask)
    assert provider.answered == 2_000
    assert seconds <= 1.5 * 2_000 * 0.5 / 40
    assert provider.refused <= 0.05 * (provider.refused + 2_000)


async def test_no_more_are_in_flight_than_the_settings_say(ask: Ask, clock: VirtualClock) -> None:
    provider = Simulated(clock, 1_000_000, 0.5)
    await run(provider, 500, ask, most=40)
    assert provider.peak == 40


async def test_a_server_without_limits_is_soon_sent_as_much_as_the_settings_say(ask: Ask, clock: VirtualClock) -> None:
    provider = Simulated(clock, 1_000_000, 0.5)
    seconds = await run(provider, 4_000, ask, most=256)
    assert provider.peak == 256
    assert seconds <= 1.6 * 4_000 / 256 * 0.5


def test_the_time_before_the_first_request_counts_for_nothing() -> None:
    """Of a clock that began long ago, as the real one did."""
    throttle = Throttle(64, now=1e6)
    for number in range(40):
        ticket = throttle.send(1e6 + number / 10)
        throttle.done(ticket, 1e6 + number / 10 + 0.05, Outcome("replied"))
    throttle.done(throttle.send(1e6 + 4), 1e6 + 4, Outcome("refused", 0.01))
    assert throttle.wait(1e6 + 4.02) < 1


async def test_refusals_for_no_reason_of_rate_do_not_slow_a_run_to_nothing(ask: Ask, clock: VirtualClock) -> None:
    provider = Simulated(clock, 1_000_000, 0.5, noise=0.05)
    seconds = await run(provider, 1_000, ask)
    assert provider.answered == 1_000
    # all wait for a second after each refusal, so 20 a second would be the most, and a pace that fell with each of
    # them would soon be at one a second
    assert 1_000 / seconds >= 2.5


async def test_what_is_refused_is_tried_before_what_is_new(ask: Ask, clock: VirtualClock) -> None:
    provider = Simulated(clock, 2, 0.05)
    client = layered(provider)
    finished: list[int] = []

    async def one(number: int) -> None:
        await client.generate(ask(str(number)))
        finished.append(number)

    async with anyio.create_task_group() as outer:
        outer.start_soon(clock.run)
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(one, number)
        outer.cancel_scope.cancel()
    # the first 32 were sent at once and nearly all refused
    assert max(finished.index(number) for number in range(32)) < 60
