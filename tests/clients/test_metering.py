from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from harness.clients import MemoryKeeper, Reply, Request
from harness.clients.budget import RunBudget
from harness.clients.ledger import Amount, Attempt
from harness.clients.metering import Metering, at_most
from harness.clients.prices import Price
from harness.clients.purpose import Purpose, on_behalf
from harness.errors import (
    BadRequest,
    ConnectionFailed,
    HarnessError,
    OverBudget,
    Overloaded,
    RateLimited,
    TimedOut,
)
from harness.questions.messages import Message
from harness.testing import MockClient
from harness.testing.tokens import BYTES
from harness.values import Usage

pytestmark = pytest.mark.anyio

PRICE = Price(input=1.0, output=10.0)
Ask = Callable[..., Request]


def unread() -> HarnessError:
    error = Overloaded("half a reply")
    error.billed = True
    return error


async def test_a_reply_is_charged_by_its_usage_and_told_with_its_cost(ask: Ask) -> None:
    usage = Usage(input=400, output=20, requests=1)
    books, budget = MemoryKeeper(), RunBudget(dollars=1.0)
    reply = await Metering(MockClient(Reply("yes", "stop", usage)), books, budget, PRICE).generate(ask())
    assert reply.usage.cost == pytest.approx(0.0006)
    assert list(books.attempts.values()) == [("ok", Amount(420, pytest.approx(0.0006)))]
    assert budget.spent == Amount(420, pytest.approx(0.0006))


async def test_what_the_provider_says_it_cost_goes_before_any_price(ask: Ask) -> None:
    usage = Usage(input=400, output=20, requests=1, cost=0.5)
    books = MemoryKeeper()
    reply = await Metering(MockClient(Reply("yes", "stop", usage)), books, RunBudget(), PRICE).generate(ask())
    assert reply.usage.cost == 0.5
    assert list(books.attempts.values()) == [("ok", Amount(420, 0.5))]


async def test_without_usage_the_upper_bound_is_charged(ask: Ask) -> None:
    request = ask()
    client, books = MockClient(Reply("yes", "stop", Usage(requests=1))), MemoryKeeper()
    await Metering(client, books, RunBudget(), PRICE).generate(request)
    assert list(books.attempts.values()) == [("ok", at_most(client.wire(request), request, PRICE))]


@pytest.mark.parametrize(
    ("error", "outcome", "charged"),
    [
        (RateLimited("slow down"), "rate_limited", False),
        (Overloaded("500"), "overloaded", False),
        (BadRequest("400"), "bad_request", False),
        (TimedOut("no answer"), "timed_out", True),
        (ConnectionFailed("reset"), "connection_failed", True),
        (unread(), "overloaded", True),
    ],
)
async def test_an_error_is_charged_where_the_provider_may_have_generated(
    ask: Ask, error: HarnessError, outcome: str, *, charged: bool
) -> None:
    request, client = ask(), MockClient(error)
    books, budget = MemoryKeeper(), RunBudget(dollars=1.0)
    with pytest.raises(type(error)):
        await Metering(client, books, budget, PRICE).generate(request)
    amount = at_most(client.wire(request), request, PRICE) if charged else Amount()
    assert list(books.attempts.values()) == [(outcome, amount)]
    assert budget.spent == amount


async def test_a_cancelled_request_stays_charged_and_frees_the_rest(ask: Ask) -> None:
    async def hang(_: Request) -> str:
        await anyio.sleep_forever()
        return ""

    request, client = ask(), MockClient(hang)
    books, budget = MemoryKeeper(), RunBudget(dollars=1.0)
    async with anyio.create_task_group() as group:
        group.start_soon(Metering(client, books, budget, PRICE).generate, request)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    bound = at_most(client.wire(request), request, PRICE)
    assert list(books.attempts.values()) == [(None, bound)]
    assert budget.spent == bound


async def test_what_was_cancelled_before_it_was_sent_costs_nothing(ask: Ask) -> None:
    class Slow(MemoryKeeper):
        async def reserve(self, attempt: Attempt) -> None:
            await super().reserve(attempt)
            await anyio.sleep_forever()

    client, books, budget = MockClient(), Slow(), RunBudget(dollars=1.0)
    async with anyio.create_task_group() as group:
        group.start_soon(Metering(client, books, budget, PRICE).generate, ask())
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert client.requests == []
    assert list(books.attempts.values()) == [("unsent", Amount())]
    assert budget.spent == Amount()


async def test_nothing_is_sent_that_might_cost_too_much(ask: Ask) -> None:
    client, books = MockClient(), MemoryKeeper()
    with pytest.raises(OverBudget):
        await Metering(client, books, RunBudget(dollars=1e-9), PRICE).generate(ask())
    assert client.requests == []
    assert books.attempts == {}


async def test_attempts_of_one_request_are_told_apart_and_booked_for_whom_they_are(ask: Ask) -> None:
    booked: list[Attempt] = []

    class Books(MemoryKeeper):
        async def reserve(self, attempt: Attempt) -> None:
            booked.append(attempt)

    client = Metering(MockClient(), Books(), RunBudget(), PRICE)
    about = Purpose("score", "ab" * 32, 7)
    with on_behalf(about):
        async with anyio.create_task_group() as group:
            group.start_soon(client.generate, ask())
            group.start_soon(client.generate, ask())
    assert len({attempt.id for attempt in booked}) == 2
    assert len({attempt.request for attempt in booked}) == 1
    assert {attempt.purpose for attempt in booked} == {about}
    assert {len(attempt.id) for attempt in booked} == {32}


@pytest.mark.parametrize(
    "text", ["plain words", "漢字かな交じり文" * 50, "\U0001f600" * 9, 'quotes " and \\ and \n' * 20]
)
def test_the_bound_holds_for_a_token_a_byte(text: str) -> None:
    messages = (Message("system", text), Message("user", text), Message("assistant", "x"), Message("user", text))
    request = Request(messages, 50)
    tokens = sum(BYTES.count(message.content) + BYTES.message for message in messages)
    assert at_most(MockClient().wire(request), request, PRICE).tokens >= tokens + 50
