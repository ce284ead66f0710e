"""A worker's part of a run, in a process of its own on this or another host."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

from harness.clients.budget import RunBudget
from harness.clients.lending import Desk, Event, Loan
from harness.clients.shared import SharedBudget, SharedLimits
from harness.errors import HarnessError
from harness.runs.merging import worker_folder
from harness.runs.parts import Part
from harness.runs.progress import Silent
from harness.runs.running import conduct
from harness.runs.stop import Stop
from harness.scale.job import Job, Report

__all__ = ["ActorLine", "work"]

# seconds between two signs of life
_BEAT = 0.5


class ActorLine:
    """The line to a counter that is a Ray actor."""

    def __init__(self, actor: Any, name: str, visit: str) -> None:
        self._actor = actor
        self._who = (name, visit)

    async def enter(self) -> None:
        """Begin a visit."""
        await self._actor.enter.remote(*self._who)

    async def leave(self) -> None:
        """End it."""
        await self._actor.leave.remote(self._who[0])

    async def tell(self, events: Sequence[Event]) -> None:
        """See `Counter.tell`."""
        await self._actor.tell.remote(*self._who, events)

    async def news(self) -> Sequence[Loan]:
        """See `Counter.news`."""
        return await self._actor.news.remote(*self._who)


class _Counted(Silent):
    """Counts the latents that are done."""

    latents = 0

    def latent(self) -> None:
        """All units of a latent are done."""
        self.latents += 1


def work(job: Job) -> Report:
    """Do a part of a run, or go on with it where a process before this one was lost."""
    os.chdir(job.folder)
    begun = time.process_time()
    report = asyncio.run(_work(job))
    return replace(report, cpu=time.process_time() - begun)


async def _work(job: Job) -> Report:
    stop, progress, visit = Stop(), _Counted(), uuid.uuid4().hex
    async with AsyncExitStack() as stack:

        async def desk(actor: Any) -> Desk:
            line = ActorLine(actor, str(job.number), visit)
            return await stack.enter_async_context(Desk(line, lambda: stop.wished))

        limits = SharedLimits({account: await desk(actor) for account, actor in job.accounts.items()})
        budget = SharedBudget(await desk(job.hub)) if job.limited else RunBudget()
        # a worker is known before it asks for anything, so that its loss is seen
        await _beat(job, visit, progress, stop)
        beating = asyncio.create_task(_keep_beating(job, visit, progress, stop))
        try:
            part = Part(job.number, job.count, limits, budget, job.beneath)
            folder = worker_folder(job.directory, job.number)
            outcome = await conduct(job.task, folder, limit=job.limit, progress=progress, stop=stop, part=part)
            await job.hub.beat.remote(job.number, visit, progress.latents)
        except HarnessError as error:
            return Report(mistake=error)
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating
    return Report(outcome.stopped_by)


async def _keep_beating(job: Job, visit: str, progress: _Counted, stop: Stop) -> None:
    while not stop.wished:
        await asyncio.sleep(_BEAT)
        await _beat(job, visit, progress, stop)


async def _beat(job: Job, visit: str, progress: _Counted, stop: Stop) -> None:
    """Tell how far the work is, and hear whether to stop; who cannot be heard any more wishes it, too."""
    try:
        wished = await job.hub.beat.remote(job.number, visit, progress.latents)
    except Exception:
        wished = True
    if wished and not stop.wished:
        stop.wish()
