"""Workers on Ray: a run is cut into parts, a process does each, and what they did is merged.

Ray starts the processes, on one host or many, and starts a lost one again; it goes on where its journal ends. Every
worker sees the run directory, the store and the task's files under the same paths.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from harness.clients.ledger import Amount
from harness.errors import HarnessError, MissingDependency, RunError, TaskError
from harness.runs.merging import WORKERS, merge_worker, snapshot, worker_folder
from harness.runs.parts import Collecting, Order
from harness.runs.progress import Progress
from harness.runs.stop import Stop
from harness.scale import gathering
from harness.scale.gathering import Gathering
from harness.scale.job import Account, Hub, Job, Report
from harness.scale.worker import work

__all__ = ["RayCrew", "ray_crew"]

# how often a worker that was lost is started again; what the last leaves undone is done by the run's own process
_RETRIES = 8
# seconds between two looks at how far the workers are
_LOOK = 1.0
# all workers' requests wait at their actor at once
_AT_ONCE = 100_000
# bytes of Ray's object store, which nothing but small values passes through; Ray takes no less
_OBJECTS = 80 * 2**20


@contextmanager
def ray_crew(workers: int, on: str = "ray") -> Iterator[RayCrew]:
    """Workers on the Ray cluster `ray:ADDRESS`, or for `ray` on one that is started on this machine for the time.

    Raises:
        MissingDependency: Ray is not installed.
        TaskError: `on` is neither.
        RunError: there is no cluster at the address, or it cannot be started.
    """
    kind, _, address = on.partition(":")
    if kind != "ray":
        raise TaskError(f'--on {on}: write "ray", or "ray:ADDRESS" for a cluster that is there already')
    try:
        import ray  # pyright: ignore[reportMissingImports] - an extra
    except ImportError as error:
        raise MissingDependency(
            'workers need the package ray: pip install "latent-harness[ray]"; without --on a run needs none'
        ) from error
    begun = not ray.is_initialized()
    if begun:
        _begin(ray, address, workers)
    try:
        yield RayCrew(ray, workers)
    finally:
        if begun:
            ray.shutdown()


def _begin(ray: Any, address: str, workers: int) -> None:
    # Ray would tell its makers of each start
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            ray.init(address, **quiet)
        else:
            # workers wait for replies most of the time: as many as wished for, however few processors there are
            ray.init("local", num_cpus=workers, include_dashboard=False, object_store_memory=_OBJECTS, **quiet)
    except Exception as error:
        where = f"at {address}" if address else "on this machine"
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunError(f"no Ray {where}: {line}") from error


class RayCrew:
    """So many workers on a Ray that is connected; see `Crew`. `cpu` is how many CPU seconds they took so far."""

    def __init__(self, ray: Any, workers: int) -> None:
        self._ray = ray
        self._workers = workers
        self.cpu = 0.0

    def of(self, workers: int) -> RayCrew:
        """So many of them."""
        return RayCrew(self._ray, workers)

    async def collect(self, collecting: Collecting, progress: Progress, stop: Stop) -> None:
        """Have workers collect as much of a store as they can; see `Crew`.

        Raises:
            UserError: something in the settings does not fit.
        """
        hub = self._actor(Hub, None, None, Amount())
        out, base = collecting.out.absolute(), collecting.base.absolute()
        job = Gathering(replace(collecting, out=out, base=base), Path.cwd(), hub)
        gpus = int(collecting.subject.device.startswith("cuda"))
        try:
            cuts = await self._step(gathering.begin, gpus, job, self._workers)
            if cuts is None or stop.wished:
                return
            gathered = _Gathered()
            async with anyio.create_task_group() as group:
                group.start_soon(self._tell_collecting, hub, cuts.tokens, progress, stop)
                async with anyio.create_task_group() as waiting:
                    for number in range(len(cuts.stretches)):
                        waiting.start_soon(self._stretch, gathered, gpus, job, number, progress)
                group.cancel_scope.cancel()
            if gathered.mistake is not None:
                raise gathered.mistake
            if gathered.done == len(cuts.stretches) and not stop.wished:
                progress.collecting(cuts.tokens, cuts.tokens)
                await self._step(gathering.join, 0, job)
        finally:
            self._ray.kill(hub)

    async def _stretch(self, gathered: _Gathered, gpus: int, job: Gathering, number: int, progress: Progress) -> None:
        try:
            gathered.done += await self._step(gathering.stretch, gpus, job, number, self._ray.get)
        except HarnessError as error:
            gathered.mistake = gathered.mistake or error
            await self.told_by(job.hub.stop.remote())
        except self._ray.exceptions.RayError as error:
            if isinstance(error, self._ray.exceptions.RayTaskError):
                raise
            progress.note(f"worker {number} was lost for good; what it leaves is collected here")

    async def _step(self, function: Any, gpus: int, *arguments: Any) -> Any:
        """What a function finds, in a worker.

        Raises:
            HarnessError: what it found to be wrong.
        """
        options = {"num_cpus": 1, "num_gpus": gpus, "max_retries": _RETRIES, "scheduling_strategy": "SPREAD"}
        ref = self._ray.remote(function).options(**options).remote(*arguments)
        try:
            done = await ref
        except BaseException:
            self._ray.cancel(ref, force=True)
            raise
        self.cpu += done.cpu
        if done.mistake is not None:
            raise done.mistake
        return done.found

    async def _tell_collecting(self, hub: Any, tokens: int, progress: Progress, stop: Stop) -> None:
        while True:
            await anyio.sleep(_LOOK)
            if stop.wished:
                await self.told_by(hub.stop.remote())
            done, _ = await self.told_by(hub.state.remote()) or (0, {})
            progress.collecting(done, tokens)

    async def work(self, order: Order) -> None:
        """Have workers do as much of a run as they can, and merge their journals; see `Crew`.

        Raises:
            UserError: a worker found that something is wrong; what was done is merged.
        """
        beneath = await anyio.to_thread.run_sync(snapshot, order.directory)
        try:
            await self._shared_out(order, beneath)
        finally:
            # what is left there belongs to workers that could not be merged
            beneath.unlink()
            if not any((order.directory / WORKERS).iterdir()):
                shutil.rmtree(order.directory / WORKERS)

    async def _shared_out(self, order: Order, beneath: Path) -> None:
        limits = order.task.limits
        hub = self._actor(Hub, limits.spend, limits.tokens, order.spent)
        accounts = {account: self._actor(Account, limits.requests) for account in order.accounts}
        limited = limits.spend is not None or limits.tokens is not None
        count = max(1, min(self._workers, order.latents))
        jobs = [
            Job(order.task, *_place(order, beneath), order.limit, number, count, hub, accounts, limited)
            for number in range(count)
        ]
        options = {"num_cpus": 1, "num_gpus": order.gpus, "max_retries": _RETRIES, "scheduling_strategy": "SPREAD"}
        remote = self._ray.remote(work).options(**options)
        refs = [remote.remote(job) for job in jobs]
        following = _Following(self, order, hub, accounts)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(following.look)
                async with anyio.create_task_group() as waiting:
                    for number, ref in enumerate(refs):
                        waiting.start_soon(following.finish, number, ref)
                group.cancel_scope.cancel()
            # what has happened since the last look
            await following.tell()
        finally:
            for ref in refs:
                self._ray.cancel(ref, force=True)
            for actor in (hub, *accounts.values()):
                self._ray.kill(actor)
        self.cpu += following.cpu
        if following.mistake is not None:
            raise following.mistake

    async def told_by(self, ref: Any) -> Any:
        """What an actor says; None where it is gone: then the workers, which need it, end by themselves."""
        try:
            return await ref
        except self._ray.exceptions.RayError:
            return None

    def _actor(self, kind: type, *arguments: Any) -> Any:
        return self._ray.remote(kind).options(num_cpus=0, max_concurrency=_AT_ONCE).remote(*arguments)


def _place(order: Order, beneath: Path) -> tuple[Path, Path, Path]:
    return order.directory.resolve(), Path.cwd(), beneath.resolve()


@dataclass
class _Gathered:
    """How many stretches are there, and the mistake that was found."""

    done: int = 0
    mistake: HarnessError | None = None


class _Following:
    """Watches workers and merges what each did once it has ended."""

    def __init__(self, crew: RayCrew, order: Order, hub: Any, accounts: dict[str, Any]) -> None:
        self._ray, self.told_by = crew._ray, crew.told_by
        self._order = order
        self._hub = hub
        self._counters = (hub, *accounts.values())
        self._merging = anyio.Lock()
        self._begun: dict[int, int] = {}
        self._told = 0
        self.cpu = 0.0
        self.mistake: HarnessError | None = None

    async def finish(self, number: int, ref: Any) -> None:
        """Wait until a worker has ended, and merge its journal."""
        try:
            report = await ref
        except self._ray.exceptions.RayError as error:
            if isinstance(error, self._ray.exceptions.RayTaskError):
                raise
            line = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self._order.progress.note(f"worker {number} was lost for good ({line}); what it leaves is done here")
            report = Report()
            for counter in self._counters:
                await self.told_by(counter.leave.remote(str(number)))
        self.cpu += report.cpu
        if report.mistake is not None:
            self.mistake = self.mistake or report.mistake
            await self.told_by(self._hub.stop.remote())
        if report.stopped_by is not None:
            self._order.progress.note(f"worker {number} stopped: {report.stopped_by}")
        folder = worker_folder(self._order.directory, number)
        try:
            async with self._merging:
                if folder.is_dir():
                    await anyio.to_thread.run_sync(partial(merge_worker, self._order.directory, folder))
        except HarnessError as error:
            self.mistake = self.mistake or error

    async def look(self) -> None:
        """Pass on the wish to stop, and tell now and then how far the workers are."""
        while True:
            await anyio.sleep(_LOOK)
            if self._order.stop.wished:
                await self.told_by(self._hub.stop.remote())
            await self.tell()

    async def tell(self) -> None:
        """Note each worker that was lost and goes on, and how many latents are done at each quarter of them."""
        latents, begun = await self.told_by(self._hub.state.remote()) or (0, {})
        for number, times in begun.items():
            for _ in range(times - self._begun.get(number, 1)):
                self._order.progress.note(f"worker {number} was lost and goes on in another process")
            self._begun[number] = times
        if 4 * latents // max(1, self._order.latents) > self._told:
            self._told = 4 * latents // self._order.latents
            self._order.progress.note(f"workers: {latents:,} of {self._order.latents:,} latents are done")
