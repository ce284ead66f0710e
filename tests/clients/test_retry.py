from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from harness.clients import Request, RetryPolicy
from harness.clients.limit import tried
from harness.clients.retry import Retry, RetryDecision, decide
from harness.errors import (
    AuthenticationFailed,
    BadRequest,
    ClientError,
    ConnectionFailed,
    MissingLogprobs,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    TimedOut,
)
from harness.testing import MockClient, VirtualClock

pytestmark = pytest.mark.anyio

Ask = Callable[..., Request]


class Slept:
    """Sleeps at once and notes how long it should have; time passes by what was slept."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def __call__(self) -> float:
        return sum(self.waits)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def retry(mock: MockClient, slept: Slept, jitter: float = 1.0, **policy: float) -> Retry:
    return Retry(mock, RetryPolicy(**policy), sleep=slept.sleep, clock=slept, jitter=lambda: jitter)  # type: ignore[arg-type] - test data


@pytest.mark.parametrize("error", [RateLimited("x"), Overloaded("x"), ConnectionFailed("x"), TimedOut("x")])
async def test_what_may_pass_is_tried_again(ask: Ask, error: ClientError) -> None:
    slept = Slept()
    mock = MockClient([error, "yes"])
    assert (await retry(mock, slept).generate(ask())).text == "yes"
    assert len(mock.requests) == 2
    assert len(slept.waits) == 1


@pytest.mark.parametrize(
    "error", [BadRequest("x"), AuthenticationFailed("x"), QuotaExhausted("x"), Refused("x"), MissingLogprobs("x")]
)
async def test_what_will_not_pass_is_sent_once(ask: Ask, error: ClientError) -> None:
    slept = Slept()
    mock = MockClient([error, "yes"])
    with pytest.raises(type(error)):
        await retry(mock, slept).generate(ask())
    assert len(mock.requests) == 1
    assert slept.waits == []


async def test_attempts_are_bounded_and_the_last_error_is_raised(ask: Ask) -> None:
    slept = Slept()
    mock = MockClient([Overloaded(f"attempt {n}") for n in range(1, 10)])
    with pytest.raises(Overloaded, match="attempt 4"):
        await retry(mock, slept, attempts=4).generate(ask())
    assert len(mock.requests) == 4


async def test_waits_double_up_to_the_longest(ask: Ask) -> None:
    slept = Slept()
    mock = MockClient([Overloaded("x")] * 5 + ["yes"])
    await retry(mock, slept, first=1.0, longest=6.0).generate(ask())
    assert slept.waits == [1.0, 2.0, 4.0, 6.0, 6.0]


async def test_waits_are_drawn_from_zero_upwards(ask: Ask) -> None:
    slept = Slept()
    await retry(MockClient([Overloaded("x")] * 3 + ["yes"]), slept, jitter=0.25).generate(ask())
    assert slept.waits == [0.25, 0.5, 1.0]


async def test_a_wait_that_the_provider_asks_for_is_kept_to(ask: Ask) -> None:
    slept = Slept()
    mock = MockClient([RateLimited("x", retry_after=30.0), Overloaded("x", retry_after=7.0), "yes"])
    await retry(mock, slept, jitter=0.5).generate(ask())
    assert slept.waits == [30.5, 7.5]


async def test_a_wait_beyond_all_patience_is_not_begun(ask: Ask) -> None:
    slept = Slept()
    mock = MockClient([RateLimited("x", retry_after=7200.0), "yes"])
    with pytest.raises(RateLimited):
        await retry(mock, slept).generate(ask())
    assert slept.waits == []


async def test_a_time_out_is_tried_again_once(ask: Ask) -> None:
    slept = Slept()
    mock = MockClient([TimedOut("x"), Overloaded("x"), TimedOut("x"), "yes"])
    with pytest.raises(TimedOut):
        await retry(mock, slept).generate(ask())
    assert len(mock.requests) == 3


async def test_too_many_requests_use_up_no_attempts_but_patience(ask: Ask) -> None:
    slept = Slept()
    mock = MockClient([RateLimited("x", retry_after=1.0)] * 50 + ["yes"])
    assert (await retry(mock, slept, attempts=2).generate(ask())).text == "yes"
    mock = MockClient(RateLimited("x", retry_after=10.0))
    slept = Slept()
    with pytest.raises(RateLimited):
        await retry(mock, slept, jitter=0.0, patience=100.0).generate(ask())
    assert slept.waits == [10.0] * 10


async def test_each_request_has_a_course_of_its_own(ask: Ask, clock: VirtualClock) -> None:
    tried: dict[str, int] = {}

    def answer(request: Request) -> str | Overloaded:
        text = request.messages[0].content
        tried[text] = tried.get(text, 0) + 1
        return text if tried[text] == 4 else Overloaded("x")

    client = Retry(MockClient(answer), RetryPolicy(attempts=4), sleep=clock.sleep, clock=clock)
    seen: list[str] = []

    async def one(text: str) -> None:
        seen.append((await client.generate(ask(text))).text)

    async with anyio.create_task_group() as outer:
        outer.start_soon(clock.run)
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(one, str(number))
        outer.cancel_scope.cancel()
    assert sorted(seen, key=int) == [str(number) for number in range(50)]
    assert set(tried.values()) == {4}


async def test_a_cancelled_back_off_ends_at_once(ask: Ask) -> None:
    mock = MockClient(Overloaded("x", retry_after=500.0))
    with anyio.move_on_after(0.05) as scope:
        await Retry(mock).generate(ask())
    assert scope.cancelled_caught
    assert len(mock.requests) == 1


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        (RateLimited("x", retry_after=3.0), RetryDecision(again=True, kind="rate limit", wait=3.0)),
        (Overloaded("x"), RetryDecision(again=True, kind="transient")),
        (TimedOut("x", retry_after=1.0), RetryDecision(again=True, kind="transient", wait=1.0)),
        (QuotaExhausted("x", status=429), RetryDecision(again=False, kind="quota")),
        (Refused("x"), RetryDecision(again=False, kind="permanent")),
    ],
)
def test_an_error_is_decided_on_by_its_kind(error: ClientError, decision: RetryDecision) -> None:
    assert decide(error) == decision


async def test_how_often_a_request_was_tried_is_known_below_and_forgotten_after(ask: Ask) -> None:
    seen: list[int] = []

    def answer(_: Request) -> str | Overloaded:
        seen.append(tried.get())
        return "yes" if len(seen) in (3, 4) else Overloaded("x")

    client = Retry(MockClient(answer), sleep=Slept().sleep)
    await client.generate(ask())
    assert tried.get() == 0
    await client.generate(ask())
    assert seen == [0, 1, 1, 0]


async def test_patience_begins_with_the_first_failure(ask: Ask, clock: VirtualClock) -> None:
    answers: list[str | RateLimited] = [RateLimited("x", retry_after=50.0), "yes"]

    async def answer(_: Request) -> str | RateLimited:
        await clock.sleep(1_000.0)  # in a queue, say
        return answers.pop(0)

    client = Retry(MockClient(answer), RetryPolicy(patience=100.0), sleep=clock.sleep, clock=clock)
    async with anyio.create_task_group() as group:
        group.start_soon(clock.run)
        assert (await client.generate(ask())).text == "yes"
        group.cancel_scope.cancel()
