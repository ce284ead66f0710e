"""What workers do of a collection, each in a process of its own on this or another host."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.runs.parts import Collecting
from harness.subject import stretches
from harness.subject.stretches import Cuts

__all__ = ["Gathered", "Gathering", "begin", "join", "stretch"]

# seconds between two signs of life
_BEAT = 0.5


@dataclass(frozen=True, slots=True)
class Gathering:
    """A collection, and the working directory that relative paths start from; `hub` is the actor that all tell."""

    collecting: Collecting
    folder: Path
    hub: Any


@dataclass(frozen=True, slots=True)
class Gathered:
    """How a step ended: what it found, or the mistake that was found; and the CPU seconds that it took."""

    found: Any = None
    mistake: HarnessError | None = None
    cpu: float = 0.0


class _Stopped(BaseException):
    """The wish to stop, carried out of what collects."""


def begin(job: Gathering, count: int) -> Gathered:
    """Begin a store and cut it: `found` are the cuts, None where the store is finished."""

    def do() -> Cuts | None:
        wanted = job.collecting
        return stretches.begin(wanted.subject, wanted.coders, wanted.out, count, wanted.base)

    return _done(job, do)


def stretch(job: Gathering, number: int, get: Callable[[Any], Any]) -> Gathered:
    """Collect a stretch: `found` says whether to its end. `get` waits for what an actor says."""
    visit, heard = uuid.uuid4().hex, time.monotonic()

    def tell(done: int, total: int) -> None:  # noqa: ARG001 - of the stretch, not of all
        nonlocal heard
        if time.monotonic() - heard > _BEAT:
            heard = time.monotonic()
            if get(job.hub.beat.remote(number, visit, done)):
                raise _Stopped

    def do() -> bool:
        wanted = job.collecting
        get(job.hub.beat.remote(number, visit, 0))
        try:
            stretches.stretch(wanted.subject, wanted.coders, wanted.out, number, wanted.base, tell)
        except _Stopped:
            return False
        return True

    return _done(job, do)


def join(job: Gathering) -> Gathered:
    """Join the stretches: `found` says whether all were there."""
    return _done(job, lambda: stretches.join(job.collecting.out))


def _done(job: Gathering, do: Callable[[], Any]) -> Gathered:
    os.chdir(job.folder)
    begun = time.process_time()
    try:
        found, mistake = do(), None
    except HarnessError as error:
        found, mistake = None, error
    return Gathered(found, mistake, time.process_time() - begun)
