from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from harness.clients import Limits, MemoryKeeper, Request, RetryPolicy, assemble
from harness.clients.limit import Breaker, Gate, Limit
from harness.clients.retry import Retry
from harness.errors import AccountError, AuthenticationFailed, Drained, QuotaExhausted, RateLimited
from harness.testing import MockClient, VirtualClock
from harness.testing.mock import Output

pytestmark = pytest.mark.anyio

Ask = Callable[..., Request]


async def test_no_more_requests_are_under_way_than_allowed(ask: Ask) -> None:
    under_way = peak = 0

    async def answer(_: Request) -> str:
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        await anyio.lowlevel.checkpoint()
        under_way -= 1
        return "ok"

    client = Limit(MockClient(answer), Gate(7), Breaker())
    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(client.generate, ask(str(number)))
    assert peak == 7


async def test_cancelled_requests_give_their_slots_back(ask: Ask) -> None:
    async def answer(request: Request) -> str:
        if request.messages[0].content == "stuck":
            await anyio.sleep_forever()
        return "ok"

    client = Limit(MockClient(answer), Gate(2), Breaker())
    for _ in range(5):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(client.generate, ask("stuck"))
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
    with anyio.fail_after(5):
        assert (await client.generate(ask())).text == "ok"


async def test_one_answer_of_too_many_requests_holds_everybody_back(ask: Ask, clock: VirtualClock) -> None:
    sent: list[float] = []

    def answer(_: Request) -> Output:
        sent.append(clock())
        return RateLimited("slow down", retry_after=10.0) if len(sent) == 3 else "ok"

    gate = Gate(2, sleep=clock.sleep, clock=clock)
    client = Retry(Limit(MockClient(answer), gate, Breaker()), sleep=clock.sleep, clock=clock)
    await _all(client, [ask(str(number)) for number in range(20)], clock)
    assert len(sent) == 21
    assert [moment for moment in sent if moment < 10.0] == [0.0] * 3
    assert min(moment for moment in sent if moment > 0) >= 10.0


async def test_a_provider_of_few_requests_a_second_loses_none(ask: Ask, clock: VirtualClock) -> None:
    tokens, filled, refused = 10.0, 0.0, 0

    def answer(_: Request) -> Output:
        nonlocal tokens, filled, refused
        tokens, filled = min(10.0, tokens + (clock() - filled) * 10), clock()
        if tokens < 1:
            refused += 1
            return RateLimited("slow down", retry_after=1.0)
        tokens -= 1
        return "ok"

    gate = Gate(16, sleep=clock.sleep, clock=clock)
    client = Retry(Limit(MockClient(answer), gate, Breaker()), RetryPolicy(attempts=2), sleep=clock.sleep, clock=clock)
    await _all(client, [ask(str(number)) for number in range(60)], clock)
    assert clock() < 30
    assert refused < 60


async def test_a_slot_is_free_while_its_request_waits_for_the_next_attempt(ask: Ask, clock: VirtualClock) -> None:
    order: list[str] = []

    def answer(request: Request) -> Output:
        order.append(request.messages[0].content)
        return RateLimited("x") if order == ["first"] else "ok"

    gate = Gate(1, sleep=clock.sleep, clock=clock)
    client = Retry(
        Limit(MockClient(answer), gate, Breaker()),
        RetryPolicy(first=5.0),
        sleep=clock.sleep,
        clock=clock,
        jitter=lambda: 1.0,
    )
    await _all(client, [ask("first"), ask("second")], clock)
    assert order == ["first", "second", "first"]


async def test_a_wait_beyond_all_patience_fails_at_once_for_everybody(ask: Ask, clock: VirtualClock) -> None:
    mock = MockClient(RateLimited("come back tomorrow", retry_after=80_000.0))
    gate = Gate(4, sleep=clock.sleep, clock=clock)
    client = Retry(Limit(mock, gate, Breaker()), sleep=clock.sleep, clock=clock)
    for _ in range(5):
        with pytest.raises(RateLimited):
            await client.generate(ask())
    assert len(mock.requests) == 1
    assert clock() == 0.0


@pytest.mark.parametrize("kind", [AuthenticationFailed, QuotaExhausted, AccountError])
async def test_an_error_of_the_account_stops_all_its_requests(ask: Ask, kind: type[AccountError]) -> None:
    limits = Limits()
    mock = MockClient([kind("no credit", status=429)])
    other = MockClient("never asked")
    client = Limit(mock, limits.gate("account", "a"), limits.breaker("account"))
    same_account = Limit(other, limits.gate("account", "b"), limits.breaker("account"))
    with pytest.raises(kind):
        await client.generate(ask())
    for _ in range(3):
        with pytest.raises(kind, match="no credit") as caught:
            await same_account.generate(ask())
        assert caught.value.status == 429
    assert other.requests == []
    elsewhere = Limit(MockClient("fine"), limits.gate("other", "a"), limits.breaker("other"))
    assert (await elsewhere.generate(ask())).text == "fine"


async def test_requests_already_waiting_for_a_turn_are_stopped_too(ask: Ask) -> None:
    release = anyio.Event()

    async def answer(_: Request) -> Output:
        await release.wait()
        return QuotaExhausted("no credit")

    mock = MockClient(answer)
    client = Limit(mock, Gate(1), Breaker())
    failed = 0

    async def one() -> None:
        nonlocal failed
        with pytest.raises(QuotaExhausted):
            await client.generate(ask())
        failed += 1

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert failed == 10
    assert len(mock.requests) == 1


async def test_models_of_one_account_share_a_breaker_and_have_gates_of_their_own() -> None:
    limits = Limits(3)
    assert limits.gate("a", "x") is limits.gate("a", "x")
    assert limits.gate("a", "x") is not limits.gate("a", "y")
    assert limits.breaker("a") is limits.breaker("a")
    assert limits.breaker("a") is not limits.breaker("b")


async def test_once_the_run_stops_nobody_sits_out_a_wait(ask: Ask) -> None:
    stopping = False
    mock = MockClient(RateLimited("x", retry_after=300.0))
    mock.account, mock.model = "account", "model"  # type: ignore[attr-defined] - as a remote client has them
    client = assemble(mock, MemoryKeeper(), stopping=lambda: stopping)
    failed = 0

    async def one(text: str) -> None:
        nonlocal failed
        with pytest.raises(Drained):
            await client.generate(ask(text))
        failed += 1

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(one, str(number))
            await anyio.wait_all_tasks_blocked()
            stopping = True
    assert failed == 5
    assert len(mock.requests) <= 5


async def _all(client: Retry, requests: list[Request], clock: VirtualClock) -> None:
    async with anyio.create_task_group() as outer:
        outer.start_soon(clock.run)
        async with anyio.create_task_group() as group:
            for request in requests:
                group.start_soon(client.generate, request)
        outer.cancel_scope.cancel()
