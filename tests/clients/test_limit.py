from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio
import anyio.lowlevel
import pytest

from harness.clients import Limits, MemoryKeeper, Reply, Request, RetryPolicy, assemble
from harness.clients.draining import Draining
from harness.clients.limit import Breaker, Gate, Limit
from harness.clients.retry import Retry
from harness.errors import AccountError, AuthenticationFailed, Drained, Overloaded, QuotaExhausted, RateLimited
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


async def test_a_run_without_a_reply_says_what_it_waited_for(ask: Ask, clock: VirtualClock) -> None:
    limits = Limits(sleep=clock.sleep, clock=clock)
    mock = MockClient(Overloaded("https://host answered 500: broken", status=500))
    limit = Limit(mock, limits.gate("account", "gpt"), limits.breaker("account"))
    client = Retry(limit, RetryPolicy(attempts=100, patience=1e6), sleep=clock.sleep, clock=clock, jitter=lambda: 1.0)
    async with anyio.create_task_group() as group:
        group.start_soon(clock.run)
        await clock.sleep(5_000.0)  # nothing is wanted yet
        group.start_soon(client.generate, ask())
        told = await limits.starved(900.0)
        group.cancel_scope.cancel()
    assert 5_900.0 <= clock() <= 5_910.0
    assert told == (
        "no reply came in 15 minutes, with requests waiting: gpt: 0 in flight, 0 in the queue, 1 to be tried again; "
        "the last error: https://host answered 500: broken"
    )


async def test_a_reply_now_and_then_is_no_starvation(ask: Ask, clock: VirtualClock) -> None:
    limits = Limits(sleep=clock.sleep, clock=clock)

    async def answer(_: Request) -> str:
        await clock.sleep(600.0)
        return "ok"

    client = Limit(MockClient(answer), limits.gate("account", "gpt", 1), limits.breaker("account"))
    async with anyio.create_task_group() as group:
        group.start_soon(clock.run)
        for number in range(5):
            group.start_soon(client.generate, ask(str(number)))
        starved: list[str] = []

        async def watch() -> None:
            starved.append(await limits.starved(900.0))

        group.start_soon(watch)
        await clock.sleep(10_000.0)
        group.cancel_scope.cancel()
    assert starved == []
    assert limits.last_success == 3_000.0
    assert limits.waiting() == []


class Telling(MockClient):
    """Tells headers, as clients of an SDK do."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__()
        self.heard: Callable[[Mapping[str, str]], None] | None = None
        self._headers = headers

    async def generate(self, request: Request) -> Reply:
        reply = await super().generate(request)
        if self.heard is not None:
            self.heard(self._headers)
        return reply


async def test_headers_of_a_provider_below_other_layers_are_heard(ask: Ask, clock: VirtualClock) -> None:
    gate = Gate(500, sleep=clock.sleep, clock=clock)
    told = {"x-ratelimit-limit-tokens": "60000", "x-ratelimit-remaining-tokens": "100", "server": "x"}
    client = Limit(Draining(Telling(told), lambda: False), gate, Breaker(), clock=clock)
    assert not gate.counts_tokens
    await client.generate(ask())
    assert gate.counts_tokens
    assert clock() == 0.0
    # some 60 tokens remain after this one; the next needs more than that
    await _all(Retry(client), [ask("x" * 700), ask("x" * 700)], clock)
    assert clock() > 0.05


async def test_an_overloaded_server_is_sent_less_at_once(ask: Ask, clock: VirtualClock) -> None:
    inside = peak = 0
    failing = True

    async def answer(_: Request) -> Output:
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await clock.sleep(1.0)
        inside -= 1
        return Overloaded("x", status=529) if failing else "ok"

    gate = Gate(32, sleep=clock.sleep, clock=clock)
    client = Retry(Limit(MockClient(answer), gate, Breaker()), RetryPolicy(attempts=20), sleep=clock.sleep, clock=clock)
    async with anyio.create_task_group() as outer:
        outer.start_soon(clock.run)
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(client.generate, ask(str(number)))
            await clock.sleep(1.5)
            assert peak == 32
            peak = 0
            await clock.sleep(2.0)
            assert peak <= 16
            failing = False
        outer.cancel_scope.cancel()


async def _all(client: Retry, requests: list[Request], clock: VirtualClock) -> None:
    async with anyio.create_task_group() as outer:
        outer.start_soon(clock.run)
        async with anyio.create_task_group() as group:
            for request in requests:
                group.start_soon(client.generate, request)
        outer.cancel_scope.cancel()
