"""Asks again where that may help: the only place that does, for the SDKs' own retries are off."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from harness.clients.layer import Layer
from harness.clients.limit import Limit, tried
from harness.clients.protocol import Client, Reply, Request
from harness.errors import ClientError, QuotaExhausted, RateLimited, TimedOut, TransientError

__all__ = ["Retry", "RetryDecision", "RetryPolicy", "decide"]

_log = logging.getLogger(__name__)

# beyond so many doublings a wait is the longest anyway, and the power would overflow in the end
_DOUBLINGS = 30
_SPREAD = 0.25  # of what a provider asks for


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long.

    `attempts` counts every try but those answered "too many requests": these say when to come back and are tried
    until `patience` seconds have passed since the first failure. `timeouts` is how many time-outs are tried again: a
    request that timed out may have been billed, and one that is too slow once is likely to be so again. Waits are
    drawn from 0 to `first` * 2**n seconds, at most `longest` (full jitter), or are what the provider asks for and up
    to a quarter of that more, at most `first`.
    """

    attempts: int = 6
    timeouts: int = 1
    first: float = 1.0
    longest: float = 60.0
    patience: float = 900.0


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What an error means for the request: whether to ask again, why, and the wait that the provider asks for."""

    again: bool
    kind: Literal["rate limit", "transient", "permanent", "quota"]
    wait: float | None = None


def decide(error: ClientError) -> RetryDecision:
    """What an error means for the request, without regard to how often it was tried."""
    if isinstance(error, RateLimited):
        return RetryDecision(again=True, kind="rate limit", wait=error.retry_after)
    if isinstance(error, TransientError):
        return RetryDecision(again=True, kind="transient", wait=error.retry_after)
    return RetryDecision(again=False, kind="quota" if isinstance(error, QuotaExhausted) else "permanent")


class Retry(Layer):
    """Tries transient errors again; all others pass through at once."""

    def __init__(
        self,
        client: Client,
        policy: RetryPolicy | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(client)
        self._policy = policy or RetryPolicy()
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter
        self._backing_off: Callable[[], AbstractContextManager[None]] = (
            client.backing_off if isinstance(client, Limit) else nullcontext
        )

    async def generate(self, request: Request) -> Reply:
        """Ask until there is a reply or the policy is used up.

        Raises:
            ClientError: the last attempt's.
        """
        try:
            return await self._client.generate(request)
        except ClientError as error:
            if not decide(error).again:
                raise
            first = error
        # most requests never come here, and are spared what the rest costs
        return await self._go_on(request, first)

    async def _go_on(self, request: Request, first: ClientError) -> Reply:
        failed: list[ClientError] = [first]
        course = _Course(self._policy, self._clock, self._jitter)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=course.ended,
            wait=course.wait,
            sleep=self._pause,
            before_sleep=self._tell,
            reraise=True,
        )

        async def attempt() -> Reply:
            if failed:
                raise failed.pop()  # the first attempt has been made already
            return await self._client.generate(request)

        before = tried.set(tried.get() + 1)
        try:
            return await retrying(attempt)
        finally:
            tried.reset(before)

    async def _pause(self, seconds: float) -> None:
        with self._backing_off():
            await self._sleep(seconds)

    def _tell(self, state: RetryCallState) -> None:
        wait = 0.0 if state.next_action is None else state.next_action.sleep
        _log.info("%s: attempt %d failed, next in %.1f s: %s", self.name, state.attempt_number, wait, _error(state))


class _Course:
    """The attempts at one request, from its first failure."""

    def __init__(self, policy: RetryPolicy, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._began = clock()
        self._failed = 0
        self._timeouts = 0

    def wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt."""
        asked = decide(_error(state)).wait
        if asked is not None:
            return asked + self._jitter() * min(self._policy.first, _SPREAD * asked)
        doublings = min(state.attempt_number - 1, _DOUBLINGS)
        return self._jitter() * min(self._policy.longest, self._policy.first * 2.0**doublings)

    def ended(self, state: RetryCallState) -> bool:
        """Whether to give up; called once after each failed attempt, with the wait already drawn."""
        error = _error(state)
        if decide(error).kind != "rate limit":
            self._failed += 1
        if isinstance(error, TimedOut):
            self._timeouts += 1
        return (
            self._failed >= self._policy.attempts
            or self._timeouts > self._policy.timeouts
            or self._clock() - self._began + state.upcoming_sleep > self._policy.patience
        )


def _error(state: RetryCallState) -> ClientError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, ClientError)
    return error
