"""Asks again where that may help: the only place that does, for the SDKs' own retries are off."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from harness.clients.layer import Layer
from harness.clients.protocol import Client, Reply, Request
from harness.errors import RateLimited, TimedOut, TransientError

__all__ = ["Retry", "RetryPolicy"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long.

    `attempts` counts every try but those answered "too many requests": these say when to come back and are tried
    until `patience` seconds have passed. `timeouts` is how many time-outs are tried again: a request that timed out
    may have been billed, and one that is too slow once is likely to be so again. Waits are drawn from 0 to
    `first` * 2**n seconds, at most `longest` (full jitter), or are what the provider asks for and up to a second more.
    """

    attempts: int = 6
    timeouts: int = 1
    first: float = 1.0
    longest: float = 60.0
    patience: float = 900.0


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

    async def generate(self, request: Request) -> Reply:
        """Ask until there is a reply or the policy is used up.

        Raises:
            ClientError: the last attempt's.
        """
        course = _Course(self._policy, self._clock, self._jitter)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=course.ended,
            wait=course.wait,
            sleep=self._sleep,
            before_sleep=self._tell,
            reraise=True,
        )
        return await retrying(self._client.generate, request)

    def _tell(self, state: RetryCallState) -> None:
        wait = 0.0 if state.next_action is None else state.next_action.sleep
        _log.info("%s: attempt %d failed, next in %.1f s: %s", self.name, state.attempt_number, wait, _error(state))


class _Course:
    """The attempts at one request so far."""

    def __init__(self, policy: RetryPolicy, clock: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._began = clock()
        self._failed = 0
        self._timeouts = 0

    def wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt."""
        error = _error(state)
        if error.retry_after is not None:
            return error.retry_after + self._jitter() * min(1.0, self._policy.first)
        # beyond 2**30 the wait is `longest` anyway, and the power would overflow in the end
        return self._jitter() * min(self._policy.longest, self._policy.first * 2.0 ** min(state.attempt_number - 1, 30))

    def ended(self, state: RetryCallState) -> bool:
        """Whether to give up; called once after each failed attempt, with the wait already drawn."""
        error = _error(state)
        if not isinstance(error, RateLimited):
            self._failed += 1
        if isinstance(error, TimedOut):
            self._timeouts += 1
        return (
            self._failed >= self._policy.attempts
            or self._timeouts > self._policy.timeouts
            or self._clock() - self._began + state.upcoming_sleep > self._policy.patience
        )


def _error(state: RetryCallState) -> TransientError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, TransientError)
    return error
