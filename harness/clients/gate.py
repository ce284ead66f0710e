"""What the requests to one model of an account pass through, in turn: each when the throttle lets it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import anyio

from harness.clients.headers import HeardLimit
from harness.clients.throttle import Outcome, Throttle
from harness.errors import ClientError, Drained, RateLimited

__all__ = ["Gate", "Limiter", "Watch", "WatchedLimiter"]

# seconds: the keeper of the queue looks again at least and at most so often
_LOOK = 0.25
_BRIEFEST = 0.002


class Limiter(Protocol):
    """Where the layer of limits asks for turns; plain values pass, so that another process can serve it."""

    @property
    def counts_tokens(self) -> bool:
        """Whether it makes a difference how many tokens a request expects."""
        ...

    async def acquire(self, tokens: tuple[int, int] = (0, 0), *, again: bool = False) -> int:
        """Wait for a turn and take it: a ticket, to be released.

        `tokens` are those expected in and out at most; a request that is tried again goes before all new ones.

        Raises:
            RateLimited: the provider asked for a longer wait than anybody's patience.
            Drained: the run is stopping.
        """
        ...

    def release(self, ticket: int, outcome: Outcome) -> None:
        """Give the turn back and say what came of it."""
        ...

    def hear(self, ticket: int, limits: Mapping[str, HeardLimit]) -> None:
        """What the headers of a response say of limits, before its ticket is released."""
        ...


class WatchedLimiter(Limiter, Protocol):
    """A limiter that also knows how its requests in this process go on."""

    model: str
    successes: int
    last_success: float

    @property
    def wanted(self) -> int:
        """Requests in flight, in the queue and between two attempts."""
        ...

    def stop_when(self, stopping: Callable[[], bool]) -> None:
        """Turn away whoever waits, once this is true."""
        ...

    def backing_off(self) -> AbstractContextManager[None]:
        """Count a request between two attempts as wanted."""
        ...

    def describe(self) -> str:
        """One line on what its requests wait for."""
        ...


class Watch:
    """What a limiter knows of how the requests in this process to one model go on."""

    def __init__(self, model: str, clock: Callable[[], float]) -> None:
        self.model = model
        self.successes = 0
        self.last_success = clock()
        self.last_error = ""
        self._clock = clock
        self._backing_off = 0

    @contextmanager
    def backing_off(self) -> Iterator[None]:
        """Count a request between two attempts as wanted."""
        self._backing_off += 1
        try:
            yield
        finally:
            self._backing_off -= 1

    def _ended(self, outcome: Outcome, now: float) -> None:
        if outcome.kind == "replied":
            self.successes += 1
            self.last_success = now
        elif outcome.said:
            self.last_error = outcome.said

    def _told(self, counts: list[str], more: str = "") -> str:
        again = [f"{self._backing_off} to be tried again"] if self._backing_off else []
        told = f"{self.model}: {', '.join([*counts, *again])}{more}"
        return f"{told}; the last error: {self.last_error}" if self.last_error else told


class _Waiter:
    """A request in the queue: `ticket` once it may go, `error` if it has to leave, `gone` when it has left."""

    __slots__ = ("error", "event", "gone", "scope", "ticket", "tokens")

    def __init__(self, tokens: tuple[int, int]) -> None:
        self.tokens = tokens
        self.event = anyio.Event()
        self.scope: anyio.CancelScope | None = None
        self.ticket: int | None = None
        self.error: ClientError | None = None
        self.gone = False

    @property
    def served(self) -> bool:
        return self.ticket is not None or self.error is not None

    def wake(self) -> None:
        self.event.set()
        if self.scope is not None:
            self.scope.cancel()


class Gate(Watch):
    """A limiter in this process.

    When the provider asks one request to wait, all wait. Beyond `patience` seconds nobody does: requests fail at once,
    and the run can be resumed later. Those tried again go first, then the others in the order in which they came.

    One of the waiting requests, the *keeper*, sleeps until the first in the queue may go; all others wait for their
    event. There is no task behind it, so nothing is left over when the callers are cancelled.
    """

    def __init__(
        self,
        requests: int,
        *,
        model: str = "",
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        patience: float = 900.0,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(model, clock)
        self._throttle = Throttle(
            requests, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute, now=clock()
        )
        self._patience = patience
        self._sleep = sleep
        self._stopping: list[Callable[[], bool]] = []
        self._again: deque[_Waiter] = deque()
        self._fresh: deque[_Waiter] = deque()
        self._waiting = 0
        self._keeper: _Waiter | None = None
        self._alarm = 0.0  # when the keeper wakes

    @property
    def counts_tokens(self) -> bool:
        """Whether any limit on tokens is known."""
        return self._throttle.counts_tokens

    @property
    def wanted(self) -> int:
        """Requests in flight, in the queue and between two attempts."""
        return len(self._throttle.flights) + self._waiting + self._backing_off

    def stop_when(self, stopping: Callable[[], bool]) -> None:
        """Turn away whoever waits, once this is true."""
        if stopping not in self._stopping:
            self._stopping.append(stopping)

    async def acquire(self, tokens: tuple[int, int] = (0, 0), *, again: bool = False) -> int:
        """Wait for a turn and take it; see `Limiter`.

        Raises:
            RateLimited: the provider asked for a longer wait than anybody's patience.
            Drained: the run is stopping.
        """
        now = self._clock()
        if self._waiting == 0 and self._throttle.wait(now, tokens) <= 0:
            return self._throttle.send(now, tokens)
        waiter = _Waiter(tokens)
        (self._again if again else self._fresh).append(waiter)
        self._waiting += 1
        if self._keeper is None:
            self._keeper = waiter
        try:
            while not waiter.served:
                await (self._keep(waiter) if self._keeper is waiter else self._doze(waiter))
        except BaseException:
            self._leave(waiter)
            raise
        finally:
            if self._keeper is waiter:
                self._appoint()
        if waiter.error is not None:
            raise waiter.error
        assert waiter.ticket is not None
        return waiter.ticket

    def release(self, ticket: int, outcome: Outcome) -> None:
        """Give the turn back and say what came of it."""
        now = self._clock()
        self._ended(outcome, now)
        self._throttle.done(ticket, now, outcome)
        # a keeper that slept for want of a slot may have to look earlier now
        if self._waiting and now + self._serve() < self._alarm and self._keeper is not None:
            self._keeper.wake()

    def hear(self, ticket: int, limits: Mapping[str, HeardLimit]) -> None:
        """What the headers of a response say of limits."""
        self._throttle.hear(ticket, limits, self._clock())

    def describe(self) -> str:
        """One line on what its requests wait for."""
        closed = self._throttle.closed_until - self._clock()
        counts = [f"{len(self._throttle.flights)} in flight", f"{self._waiting} in the queue"]
        return self._told(counts, f"; closed for another {closed:.0f} s" if closed > 0 else "")

    async def _doze(self, waiter: _Waiter) -> None:
        await waiter.event.wait()
        if not waiter.served:
            waiter.event = anyio.Event()  # it was woken to keep the queue

    async def _keep(self, waiter: _Waiter) -> None:
        """Serve the queue, then sleep until there may be more to do."""
        wait = self._serve()
        if waiter.served:
            return
        pause = min(max(wait, _BRIEFEST), _LOOK)
        self._alarm = self._clock() + pause
        with anyio.CancelScope() as waiter.scope:
            await self._sleep(pause)
        waiter.scope = None

    def _serve(self) -> float:
        """Let all go who may: seconds until the next may, infinite where a slot or a request is missing."""
        now = self._clock()
        stopping = any(stopping() for stopping in self._stopping)
        while (queue := self._queue()) is not None:
            waiter = queue[0]
            closed = self._throttle.closed_until - now
            if stopping:
                waiter.error = Drained("the run is stopping", model=self.model)
            elif closed > self._patience:
                told = f"the provider asks to wait for {closed:.0f} s; resume the run then"
                waiter.error = RateLimited(told, model=self.model, retry_after=closed)
            elif (wait := self._throttle.wait(now, waiter.tokens)) > 0:
                return wait
            else:
                waiter.ticket = self._throttle.send(now, waiter.tokens)
            queue.popleft()
            self._waiting -= 1
            waiter.wake()
        return float("inf")

    def _queue(self) -> deque[_Waiter] | None:
        """The queue whose first is next, without those who have left."""
        for queue in (self._again, self._fresh):
            while queue and queue[0].gone:
                queue.popleft()
            if queue:
                return queue
        return None

    def _leave(self, waiter: _Waiter) -> None:
        """A waiting request was cancelled, perhaps after its turn had come."""
        if waiter.ticket is not None:
            self.release(waiter.ticket, Outcome("unsent"))
        elif waiter.error is None:
            waiter.gone = True
            self._waiting -= 1

    def _appoint(self) -> None:
        """Let the last in the queue keep it: its own turn comes latest."""
        self._keeper = None
        for queue in (self._fresh, self._again):
            while queue and queue[-1].gone:
                queue.pop()
            if queue:
                self._keeper = queue[-1]
                self._keeper.wake()
                return
