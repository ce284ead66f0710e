"""The layer that sends a request in its turn, and the gates and breakers that the clients of a run share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

import anyio

from harness.clients.breaker import Breaker
from harness.clients.gate import Gate, WatchedLimiter
from harness.clients.headers import rate_limits
from harness.clients.layer import Layer
from harness.clients.protocol import Client, Reply, Request
from harness.clients.throttle import Outcome
from harness.errors import AccountError, ClientError, Drained, OverBudget, Overloaded, RateLimited, TransientError

__all__ = ["Breaker", "Gate", "Limit", "Limits", "Telling", "tried"]

# how often the present task's request was sent before; whoever asks again sets it
tried: ContextVar[int] = ContextVar("tried", default=0)
_ticket: ContextVar[int] = ContextVar("ticket", default=0)

# Headers are read no more often than this, in seconds; less often still where a provider sends none of limits.
_EACH = 0.05
_EACH_WITHOUT = 5.0
_BYTES_A_TOKEN = 3.5  # what text and its JSON come to; replies correct it
# these two say that the provider has too much to do; other statuses of its failures do not
_OVERLOADED = (503, 529)
_CANCELLED = Outcome("failed")
_UNSENT = Outcome("unsent")


@runtime_checkable
class Telling(Protocol):
    """A client that calls `heard` with the headers, in lower case, of every response before it gives the reply."""

    heard: Callable[[Mapping[str, str]], None] | None


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
        self._began = clock()
        self._gates: dict[tuple[str, str], WatchedLimiter] = {}
        self._breakers: dict[str, Breaker] = {}

    @property
    def last_success(self) -> float:
        """When the last reply came, by the clock; when the run began where none came yet."""
        return max((gate.last_success for gate in self._gates.values()), default=self._began)

    def gate(
        self,
        account: str,
        model: str,
        requests: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> WatchedLimiter:
        """The gate of a model of an account; the first to ask decides how much it lets through."""
        if (account, model) not in self._gates:
            made = self._made(account, model, requests, requests_per_minute, tokens_per_minute)
            self._gates[account, model] = made
        return self._gates[account, model]

    def breaker(self, account: str) -> Breaker:
        """The breaker of an account."""
        return self._breakers.setdefault(account, Breaker())

    def waiting(self) -> list[str]:
        """A line for each model of which a reply is wanted: what its requests wait for."""
        return [gate.describe() for gate in self._gates.values() if gate.wanted]

    async def starved(self, patience: float) -> str:
        """Wait until replies were wanted for `patience` seconds and none came; one sentence on what was waited for.

        Time in which none were wanted does not count.
        """
        hungry, successes, seen = 0.0, self._successes(), self._clock()
        while hungry < patience:
            await self._sleep(min(5.0, patience / 10))
            now = self._clock()
            if self._successes() > successes:
                hungry, successes = 0.0, self._successes()
            elif any(gate.wanted for gate in self._gates.values()):
                hungry += now - seen
            seen = now
        return f"no reply came in {_span(hungry)}, with requests waiting: {' | '.join(self.waiting()) or 'none now'}"

    def _made(
        self,
        account: str,  # noqa: ARG002 - gates that are shared are made by it
        model: str,
        requests: int | None,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
    ) -> WatchedLimiter:
        return Gate(
            requests or self._requests,
            model=model,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            patience=self._patience,
            sleep=self._sleep,
            clock=self._clock,
        )

    def _successes(self) -> int:
        return sum(gate.successes for gate in self._gates.values())


class Limit(Layer):
    """Sends a request when its gate lets it, and tells gate and breaker what came back.

    It stands inside the retries, so that a request that waits for its next attempt holds no slot. Once `stopping()` is
    true nobody waits for a turn any more; whether a request that need not wait is sent is for the client inside.
    """

    def __init__(
        self,
        client: Client,
        gate: WatchedLimiter,
        breaker: Breaker,
        stopping: Callable[[], bool] = lambda: False,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client)
        self._gate = gate
        self._breaker = breaker
        self._clock = clock
        self._deaf_until = clock()
        gate.stop_when(stopping)
        if (teller := _teller(client)) is not None:
            teller.heard = self._hear

    async def generate(self, request: Request) -> Reply:
        """Ask once, in turn.

        Raises:
            Drained: the run is stopping, and it had to wait.
            ClientError: no reply.
        """
        self._breaker.check()
        ticket = await self._gate.acquire(self._tokens(request), again=tried.get() > 0)
        _ticket.set(ticket)
        outcome = _CANCELLED
        try:
            self._breaker.check()  # it may have tripped while this request waited
            reply = await self._client.generate(request)
            used = reply.usage
            outcome = Outcome("replied", input=used.input + used.cache_read + used.cache_write, output=used.output)
            return reply
        except ClientError as error:
            if isinstance(error, AccountError):
                self._breaker.trip(error)
            outcome = _outcome(error)
            raise
        finally:
            self._gate.release(ticket, outcome)

    def backing_off(self) -> AbstractContextManager[None]:
        """While in it, a request waits for its next attempt."""
        return self._gate.backing_off()

    def _tokens(self, request: Request) -> tuple[int, int]:
        if not self._gate.counts_tokens:
            return 0, 0
        return round(len(self.wire(request).body) / _BYTES_A_TOKEN), request.max_tokens

    def _hear(self, headers: Mapping[str, str]) -> None:
        if (now := self._clock()) < self._deaf_until:
            return
        told = {name: value for name, value in headers.items() if "ratelimit" in name}
        self._deaf_until = now + (_EACH if told else _EACH_WITHOUT)
        if told and (limits := rate_limits(told, datetime.now(UTC))):
            self._gate.hear(_ticket.get(), limits)


def _outcome(error: ClientError) -> Outcome:
    if isinstance(error, Drained | OverBudget):
        return _UNSENT
    wait = error.retry_after if isinstance(error, TransientError) else None
    if isinstance(error, RateLimited):
        return Outcome("refused", wait, error.message)
    if isinstance(error, Overloaded) and error.status in _OVERLOADED:
        return Outcome("overloaded", wait, error.message)
    return Outcome("failed", wait, error.message)


def _teller(client: Client) -> Telling | None:
    """The client inside all layers, if it tells what it hears."""
    while isinstance(client, Layer):
        client = client._client
    return client if isinstance(client, Telling) else None


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
