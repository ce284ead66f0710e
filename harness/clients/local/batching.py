"""Requests that wait for one model, taken together as they come: the next batch is whoever waits when one ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel

from harness.subject.worker import Caller, TorchWorker

__all__ = ["Batches", "Kind", "around"]

A = TypeVar("A")
W = TypeVar("W", bound=Hashable)
R = TypeVar("R")
A_contra = TypeVar("A_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

# Requests of a line that a batch is chosen from: enough to find some of like length, little to tokenise at once.
_WINDOW = 512


class Kind(Protocol[A_contra, W, R_co]):
    """What a line's requests are to the model; all of it is called on the worker's thread."""

    def prepare(self, asked: A_contra) -> W:
        """What has to be done for a request; an error is its answer."""
        ...

    def choose(self, own: W, ready: Sequence[W]) -> Sequence[W]:
        """Which of those ready, `own` among them, to do together with `own`."""
        ...

    def work(self, batch: Sequence[W], left: Callable[[W], bool]) -> Iterator[tuple[W, R_co]]:
        """Do a batch and give each answer as soon as it is there.

        After every forward pass those whose caller has `left` are dropped.
        """
        ...


class Batches(Generic[A, W, R]):
    """A line of requests before a worker's thread.

    Every request brings a job of its own to the worker, which takes it along with others of the line. One that was
    answered in another's batch takes its own job back. So batches need no task that outlives its requests, none waits
    for company, and other users of the thread get their turn between two batches.
    """

    def __init__(self, thread: TorchWorker, kind: Callable[[], Kind[A, W, R]]) -> None:
        """`kind` is called on the thread before every batch, and may load the model."""
        self._thread = thread
        self._kind = kind
        self._line: dict[_Ticket[A, W, R], None] = {}
        self._lock = threading.Lock()

    async def ask(self, asked: A) -> R:
        """The answer; a caller that is cancelled leaves its batch, and the others of it go on."""
        finished = anyio.Event()
        ticket: _Ticket[A, W, R] = _Ticket(asked, _waker(asyncio.get_running_loop(), finished))
        with self._lock:
            self._line[ticket] = None
        try:
            # those that start together with this one get in line before the thread looks
            await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as group:
                group.start_soon(self._bring, ticket)
                await finished.wait()
                group.cancel_scope.cancel()
        finally:
            ticket.gone = True
            self._take([ticket])
        return ticket.result()

    async def _bring(self, ticket: _Ticket[A, W, R]) -> None:
        def job(_: Caller) -> None:
            # whose job it is may leave while others are in its batch: the tickets tell who still waits
            self._run(ticket)

        try:
            await self._thread.call(job)
        except Exception as error:  # the worker is closed; what happens inside a job is told to its tickets
            ticket.fail(error)

    def _run(self, own: _Ticket[A, W, R]) -> None:
        with self._lock:
            if own not in self._line:
                return
            line = [own, *islice((ticket for ticket in self._line if ticket is not own), _WINDOW)]
        taken = [own]
        try:
            kind = self._kind()
            ready = {work: ticket for ticket in line if (work := _prepared(kind, ticket)) is not None}
            batch = [] if own.work is None else kind.choose(own.work, [*ready])
            taken = [ready[work] for work in batch]
            self._take([*taken, *(ticket for ticket in line if ticket.done)])
            if batch:
                for work, answer in kind.work(batch, lambda work: ready[work].gone):
                    ready[work].answer(answer)
        except BaseException as error:
            self._take(taken)
            for ticket in taken:
                ticket.fail(error)

    def _take(self, tickets: Iterable[_Ticket[A, W, R]]) -> None:
        with self._lock:
            for ticket in tickets:
                self._line.pop(ticket, None)


def around(own: W, ready: Sequence[W], size: Callable[[W], int], *, rows: int, room: int) -> list[W]:
    """`own`, one of those `ready`, with those nearest to it in size, so that little is padded.

    At most `rows`, and at most `room` when all are as large as the largest; `own` is taken however large it is.
    """
    ordered = sorted(ready, key=size)
    sizes = [size(work) for work in ordered]
    first = ordered.index(own)
    last = first + 1
    mine = sizes[first]
    while last - first < rows and last - first < len(ordered):
        down = last == len(ordered) or (first > 0 and mine - sizes[first - 1] <= sizes[last] - mine)
        largest = sizes[last - 1] if down else sizes[last]
        if (last - first + 1) * largest > room:
            break
        first, last = (first - 1, last) if down else (first, last + 1)
    return ordered[first:last]


class _Ticket(Generic[A, W, R]):
    """A request in line, what has to be done for it, and its answer or error once there is one."""

    __slots__ = ("_error", "_result", "_wake", "asked", "done", "gone", "work")

    def __init__(self, asked: A, wake: Callable[[], None]) -> None:
        self.asked = asked
        self.work: W | None = None
        self.gone = False
        self.done = False
        self._result: R | None = None
        self._error: BaseException | None = None
        self._wake = wake

    def answer(self, result: R) -> None:
        """Give the answer; what comes after the first is dropped."""
        self._end(result, None)

    def fail(self, error: BaseException) -> None:
        """Say why there is none."""
        self._end(None, error)

    def result(self) -> R:
        """The answer, or its error raised."""
        if self._error is not None:
            raise self._error
        return self._result  # pyright: ignore[reportReturnType] - set, or there is an error

    def _end(self, result: R | None, error: BaseException | None) -> None:
        if not self.done:
            self._result, self._error, self.done = result, error, True
            self._wake()


def _prepared(kind: Kind[A, W, R], ticket: _Ticket[A, W, R]) -> W | None:
    """What has to be done for a request, None where it was answered by an error."""
    if ticket.work is None and not ticket.done:
        try:
            ticket.work = kind.prepare(ticket.asked)
        except Exception as error:
            ticket.fail(error)
    return ticket.work


def _waker(loop: asyncio.AbstractEventLoop, event: anyio.Event) -> Callable[[], None]:
    def wake() -> None:
        # the loop may have ended before the batch; then nobody is left to tell
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(event.set)

    return wake
