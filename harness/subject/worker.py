"""The torch worker: one thread that owns the models of a device, a bounded queue before it, awaited from asyncio."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import anyio

__all__ = ["Caller", "CallerGone", "TorchWorker", "worker"]

T = TypeVar("T")

# Jobs that may wait: enough to keep the thread busy, few enough that callers feel that it is.
_WAITING = 8


class CallerGone(BaseException):
    """Raised inside a job whose caller was cancelled; not an Exception, so that no job swallows it by accident."""


class Caller:
    """Whether the one who asked for a job still waits for it.

    A job looks after every forward pass and every generated token.
    """

    def __init__(self) -> None:
        self._gone = threading.Event()

    @property
    def gone(self) -> bool:
        """Whether the caller was cancelled."""
        return self._gone.is_set()

    def check(self) -> None:
        """Raise CallerGone if the caller was cancelled."""
        if self.gone:
            raise CallerGone

    def leave(self) -> None:
        """Say that nobody waits any more."""
        self._gone.set()


class TorchWorker:
    """One daemon thread on which every load, trace and free of a device happens, job after job.

    A caller that is cancelled returns at once; its job, if it runs, goes on to its next look at `Caller`, and no
    other job starts before it has ended. A job that did not begin yet never does.
    """

    def __init__(self, name: str = "torch", waiting: int = _WAITING) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._slots = _Slots(waiting + 1)
        self._thread = threading.Thread(target=self._serve, name=f"{name}-worker", daemon=True)
        self._closed = False
        self._thread.start()

    async def call(self, work: Callable[[Caller], T]) -> T:
        """What `work` returns or raises, run on the thread in its turn."""
        loop = asyncio.get_running_loop()

        def waker(event: anyio.Event) -> Callable[[], None]:
            def wake() -> None:
                # the loop may have ended before the job; then nobody is left to tell
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(event.set)

            return wake

        granted = anyio.Event()
        ticket = self._slots.take(waker(granted))
        try:
            await granted.wait()
        except BaseException:
            self._slots.give_up(ticket)
            raise
        finished = anyio.Event()
        job = self._put(work, waker(finished))
        try:
            await finished.wait()
        except BaseException:
            job.caller.leave()
            raise
        return job.future.result(0)

    def call_blocking(self, work: Callable[[Caller], T]) -> T:
        """What `work` returns or raises, for callers without an event loop."""
        granted = threading.Event()
        ticket = self._slots.take(granted.set)
        try:
            granted.wait()
        except BaseException:
            self._slots.give_up(ticket)
            raise
        job = self._put(work, lambda: None)
        try:
            return job.future.result()
        except BaseException:
            job.caller.leave()
            raise

    def close(self) -> None:
        """End the thread after the jobs that wait; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join()

    def _put(self, work: Callable[[Caller], Any], wake: Callable[[], None]) -> _Job:
        if self._closed:
            self._slots.release()
            raise RuntimeError("this torch worker is closed")
        job = _Job(work, wake)
        self._jobs.put(job)
        return job

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            self._slots.release()
            job.wake()


class _Job:
    __slots__ = ("caller", "future", "wake", "work")

    def __init__(self, work: Callable[[Caller], Any], wake: Callable[[], None]) -> None:
        self.work = work
        self.wake = wake
        self.caller = Caller()
        self.future: Future[Any] = Future()

    def run(self) -> None:
        if self.caller.gone:
            self.future.cancel()
            return
        try:
            self.future.set_result(self.work(self.caller))
        except BaseException as error:
            # CallerGone too: nobody reads it then, and the thread goes on to the next job
            self.future.set_exception(error)


class _Slots:
    """Places in the queue, given in the order of asking to threads and event loops alike."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def take(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Ask for a place; `wake` is called once it is there. It is also the ticket to give up with."""
        with self._lock:
            if not self._free:
                self._waiting.append(wake)
                return wake
            self._free -= 1
        wake()
        return wake

    def give_up(self, ticket: Callable[[], None]) -> None:
        """Ask no more, or give the place back."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                return
        self.release()

    def release(self) -> None:
        """Give a place back, to who waits longest."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            wake = self._waiting.popleft()
        wake()


_WORKERS: dict[str, TorchWorker] = {}
_LOCK = threading.Lock()


def worker(device: str) -> TorchWorker:
    """The process's one worker of a device; `cuda` and `cuda:0` are one device."""
    name = "cuda:0" if device == "cuda" else device
    with _LOCK:
        if name not in _WORKERS:
            _WORKERS[name] = TorchWorker(name)
        return _WORKERS[name]
