"""How many requests are under way at once, when the next may go, and whether any may go at all."""

from __future__ import annotations

import copy
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from harness.clients.layer import Layer
from harness.clients.protocol import Client, Reply, Request
from harness.errors import AccountError, RateLimited, TransientError

__all__ = ["Breaker", "Gate", "Limit", "Limits"]


_LOOK = 0.25  # seconds between two looks at whether the gate is open


class Gate:
    """What the requests to one model of an account pass through: so many at once, none before the time asked for.

    When the provider asks one request to wait, all wait. Beyond `patience` seconds nobody does: requests fail at
    once, and the run can be resumed later.
    """

    def __init__(
        self,
        requests: int,
        *,
        patience: float = 900.0,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = anyio.CapacityLimiter(requests)
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self._not_before = clock()

    @asynccontextmanager
    async def slot(self, stopping: Callable[[], bool] = lambda: False) -> AsyncIterator[None]:
        """Wait for a turn, no longer than until `stopping()` is true, and hold it.

        Raises:
            RateLimited: the provider asked for a longer wait than anybody's patience.
        """
        # a task may hold several slots, which the limiter allows only on behalf of different borrowers
        borrower = object()
        await self._slots.acquire_on_behalf_of(borrower)
        try:
            await self._opening(stopping)
            yield
        finally:
            self._slots.release_on_behalf_of(borrower)

    def heed(self, error: TransientError) -> None:
        """Close until the time that a provider's answer names."""
        if error.retry_after is not None:
            self._not_before = max(self._not_before, self._clock() + error.retry_after)

    async def _opening(self, stopping: Callable[[], bool]) -> None:
        # in short steps, for meanwhile another request may close it for longer, or the run may stop
        while (wait := self._not_before - self._clock()) > 0 and not stopping():
            if wait > self._patience:
                raise RateLimited(f"the provider asks to wait for {wait:.0f} s; resume the run then", retry_after=wait)
            await self._sleep(min(wait, _LOOK))


class Breaker:
    """Stops every request of an account once one has shown that none can succeed."""

    def __init__(self) -> None:
        self._error: AccountError | None = None

    def check(self) -> None:
        """Raise what tripped it, if anything has.

        Raises:
            AccountError: the account's first error, for every later request.
        """
        if self._error is not None:
            raise copy.copy(self._error)

    def trip(self, error: AccountError) -> None:
        """Let nothing pass from now on."""
        if self._error is None:
            self._error = copy.copy(error)


class Limits:
    """The gates and breakers of a run: a gate for each account and model, a breaker for each account.

    `requests` is how many may be under way at once for one model where its settings do not say.
    """

    def __init__(
        self,
        requests: int = 64,
        *,
        patience: float = 900.0,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = requests
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self._gates: dict[tuple[str, str], Gate] = {}
        self._breakers: dict[str, Breaker] = {}

    def gate(self, account: str, model: str, requests: int | None = None) -> Gate:
        """The gate of a model of an account; the first to ask decides how many requests it lets through at once."""
        if (account, model) not in self._gates:
            self._gates[account, model] = Gate(
                requests or self._requests, patience=self._patience, sleep=self._sleep, clock=self._clock
            )
        return self._gates[account, model]

    def breaker(self, account: str) -> Breaker:
        """The breaker of an account."""
        return self._breakers.setdefault(account, Breaker())


class Limit(Layer):
    """Sends a request when its gate lets it, and tells gate and breaker what came back.

    It stands inside the retries, so that a request that waits for its next attempt holds no slot. Once `stopping()` is
    true nobody waits for a closed gate; whether anything is sent then is for the client inside.
    """

    def __init__(
        self, client: Client, gate: Gate, breaker: Breaker, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(client)
        self._gate = gate
        self._breaker = breaker
        self._stopping = stopping

    async def generate(self, request: Request) -> Reply:
        """Ask once, in turn.

        Raises:
            ClientError: no reply.
        """
        self._breaker.check()
        async with self._gate.slot(self._stopping):
            self._breaker.check()  # it may have tripped while this request waited
            try:
                return await self._client.generate(request)
            except AccountError as error:
                self._breaker.trip(error)
                raise
            except TransientError as error:
                self._gate.heed(error)
                raise
