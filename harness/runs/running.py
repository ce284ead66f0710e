"""A run from its task to a finished directory: check, collect, choose latents, conduct, account for what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio

from harness.clients import Amount, Client, Limits, RunBudget, assemble, price_of
from harness.clients.models import Models
from harness.errors import OverBudget, StoreError, TaskError
from harness.runs.arms import fixed
from harness.runs.batch_rows import BatchRows
from harness.runs.batches import Batches
from harness.runs.collecting import collected
from harness.runs.conductor import Conductor
from harness.runs.directory import JOURNAL, freeze, held
from harness.runs.indexing import build_indexes, check_embedder
from harness.runs.journal import Journal
from harness.runs.merging import merge_workers
from harness.runs.parts import Crew, Order, Part
from harness.runs.populations import Population, open_populations
from harness.runs.probing import check_wants, learn_wants
from harness.runs.progress import Progress, Silent
from harness.runs.recording import Work, arms_recorded, recorded
from harness.runs.selection import check_pooled, check_sampling, choose
from harness.runs.stop import Stop
from harness.runs.units import Plan, make_plan
from harness.runs.watching import watched
from harness.store import Store
from harness.subject.collect import read_figures
from harness.task import Task
from harness.validation import naming
from harness.values import Status

__all__ = ["Outcome", "check", "close", "conduct", "default_directory", "open_store", "probed", "ready"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: units by status, and what stopped it, if anything did, in one sentence.

    `waiting` is the number of batches that have to be collected before it can be finished.
    """

    directory: Path
    statuses: Mapping[Status, int]
    stopped_by: str | None = None
    interrupted: bool = False
    waiting: int = 0

    @property
    def failures(self) -> dict[Status, int]:
        """Units that failed, by reason."""
        return {status: count for status, count in sorted(self.statuses.items()) if status != "ok"}


def default_directory(task: Task) -> Path:
    """Where a task's run goes unless told otherwise: `runs/<name>` under the working directory."""
    return Path("runs") / task.name


async def conduct(
    task: Task,
    directory: Path,
    *,
    limit: int | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
    wait: float | None = None,
    crew: Crew | None = None,
    part: Part | None = None,
) -> Outcome:
    """Do a task, or finish it: everything that is already in the directory's journal is left as it is.

    Batches that ended are collected. With `wait` those that have not are waited for, with a look every so many seconds;
    without, the run ends when nothing is left to do but to wait. With a `crew` its workers do what they can first, each
    by a call of this with its `part`; what goes by batch they leave.

    Raises:
        UserError: the task or something that it names is wrong; nothing was spent then.
    """
    stop = stop or Stop()
    progress = progress or Silent()
    async with AsyncExitStack() as stack:
        stack.enter_context(stop.scope)
        await check(task)
        stack.enter_context(held(directory))
        store = await open_store(task, progress, stop, crew)
        if store is None:
            return Outcome(directory, {}, interrupted=True)
        _tell_figures(store, progress)
        await anyio.to_thread.run_sync(merge_workers, directory)
        beneath = None if part is None else part.beneath
        journal = await stack.enter_async_context(Journal(directory / JOURNAL, beneath))
        await BatchRows(journal).drop_unsent()
        means = _Means(task, journal, progress, stop, part)
        stack.push_async_callback(means.batches.aclose)
        stack.push_async_callback(close, means.models)
        work = await _found(stack, task, store, means, limit, crew)
        if work is None:
            return Outcome(directory, {}, interrupted=True)
        record, changed = freeze(directory, journal, recorded(task, store, means.models, work))
        for line in changed:
            progress.note(f"changed since the last run here: {line}")
        await journal.begin(record, arms_recorded(work.plan))
        await means.batches.collect()
        if crew is not None:
            await _share_out(crew, directory, work, means, limit)
        mine = None if part is None else part.of(work.latents)
        return await _rounds(directory, work, means, mine, retry_failed=retry_failed, wait=wait)
    # only a cancelled scope, left early, comes here
    return Outcome(directory, {}, interrupted=True)


class _Means:
    """What a run works with: its journal and models, and between them limits, money and batches."""

    def __init__(self, task: Task, journal: Journal, progress: Progress, stop: Stop, part: Part | None) -> None:
        self.task, self.journal, self.progress, self.stop = task, journal, progress, stop
        # who is at work, once somebody is
        self.conductor: Conductor | None = None
        limits = task.limits
        self.limits = Limits(limits.requests) if part is None else part.limits
        self.budget = RunBudget(limits.spend, limits.tokens, journal.spent()) if part is None else part.budget
        self.batches = Batches(journal, self.budget, progress.note, self.draining, leaving=part is not None)
        self.models = Models(task.model, self._wrap)

    def draining(self) -> bool:
        """Whether nothing new is to be asked."""
        return self.stop.wished if self.conductor is None else self.conductor.draining

    def _wrap(self, client: Client) -> Client:
        settings = self.task.model.get(client.name, {})
        live = assemble(
            client,
            self.journal,
            limits=self.limits,
            budget=self.budget,
            price=price_of(client.name, settings),
            stopping=self.draining,
        )
        return self.batches.wrap(client, live, settings) if settings.get("batch") is True else live


async def _found(
    stack: AsyncExitStack, task: Task, store: Store, means: _Means, limit: int | None, crew: Crew | None
) -> Work | None:
    """What there is to do, with models asked what they can and indexes made; None where that was stopped."""
    progress, models = means.progress, means.models
    coders = {coder.name: store.coder(coder.name) for coder in task.coder}
    latents = {name: choose(task, coder, limit) for name, coder in coders.items()}
    populations = await open_populations(task, store, latents, progress, means.stop, crew=crew)
    if populations is None:
        return None
    plan = ready(task, models, store, populations)
    stack.push_async_callback(plan.aclose)
    await probed(plan, models, task, progress)
    for one in populations:
        coders[one.reader.name], latents[one.reader.name] = one.reader, list(one.latents)
    await build_indexes(task, coders, latents, models, progress, plan.pooled)
    return Work(plan, coders, latents, populations)


def _tell_figures(store: Store, progress: Progress) -> None:
    for name, found in read_figures(store).items():
        for note in found.notes:
            progress.note(f"{name}: {note}")
        progress.note(f"{name}: {found}")


async def _share_out(crew: Crew, directory: Path, work: Work, means: _Means, limit: int | None) -> None:
    """Have workers do what they can, and count what they spent."""
    before = means.journal.spent()
    many, gpus = sum(map(len, work.latents.values())), int(_on_gpu(means.task, work.plan, means.models))
    accounts = means.models.accounts()
    await crew.work(Order(means.task, directory, many, limit, gpus, accounts, before, means.progress, means.stop))
    means.budget.settle(Amount(), _more(means.journal.spent(), before))


async def _rounds(
    directory: Path,
    work: Work,
    means: _Means,
    mine: Mapping[str, Sequence[int]] | None,
    *,
    retry_failed: bool,
    wait: float | None,
) -> Outcome:
    """Do all units that can be done, again whenever batches have arrived, if they are waited for."""
    task, progress, stop, batches = means.task, means.progress, means.stop, means.batches
    plan, coders, latents = work.plan, work.coders, work.latents
    cure = "limits.patience says how long to wait"
    while True:
        conductor = Conductor(task, plan, means.journal, coders, latents, progress, stop, retry_failed, mine)
        means.conductor = conductor
        progress.begin(sum(map(len, latents.values())), _units(plan, latents), lambda: means.budget.spent)
        await watched(conductor.run, conductor.end, means.limits, task.limits.patience, progress.note, cure)
        if _sending(conductor):
            await batches.submit()
        if wait is None or not conductor.waiting or conductor.draining or batches.trouble:
            break
        await batches.arrival(wait)
        # what failed and was not paid for is tried again each round, what was paid for is not
        retry_failed = False
    ended_by = [*([str(conductor.stopped_by)] if conductor.stopped_by else []), *batches.trouble.values()]
    waiting = len(batches.waiting()) if conductor.waiting else 0
    return Outcome(directory, dict(conductor.statuses), "; ".join(ended_by) or None, stop.wished, waiting)


def _sending(conductor: Conductor) -> bool:
    """Whether what waits for a batch is to be submitted: also where nothing more can be paid for beside it."""
    ended = conductor.stopped_by
    return not conductor.stop.wished and (ended is None or isinstance(ended, OverBudget))


async def check(task: Task) -> None:
    """Everything in a task that can be wrong before anything is loaded or spent.

    Raises:
        UserError: a kind, setting, model, prompt or key is wrong.
    """
    models = Models(task.model, lambda client: client)
    try:
        check_embedder(task, models)
        plan = make_plan(task, models, "")
        check_wants(models, plan.wants, lambda _: None, task.source)
        _check_prices(task, models)
    finally:
        await models.aclose()


def ready(task: Task, models: Models, store: Store, populations: Sequence[Population] = ()) -> Plan:
    """The task's plan on a store and its populations, which have to be of the subject that texts are read by.

    Raises:
        UserError: as `make_plan`, or a store is another subject's.
    """
    plan = make_plan(task, models, store.id, [one.place for one in populations])
    coders = [*(store.coder(coder.name) for coder in task.coder), *(one.reader for one in populations)]
    check_pooled(task, coders, {name: made.rungs for name, made in plan.explainers.items()})
    if plan.subject is not None:
        with naming(f"{task.source}: subject"):
            for found in (store, *(one.reader.store for one in populations)):
                plan.subject.check(found)
    return plan


async def probed(plan: Plan, models: Models, task: Task, progress: Progress) -> None:
    """Learn what models can do where only asking tells, and tell what they lack.

    Raises:
        TaskError: a model lacks what a scorer or explainer needs.
        RunStopped: a model does not answer.
    """
    await learn_wants(models, plan.wants, progress.note, task.source)


def _check_prices(task: Task, models: Models) -> None:
    for name in models.names():
        # also a price that nobody needs has to be right
        price = models.price(name)
        if task.limits.spend is not None and price is None and not models.client(name).capabilities.model_free:
            raise TaskError(
                f"{task.source}: limits.spend: no price is known for {name}, so the limit could not be kept; give "
                f'[model."{name}"] price = {{ input = 1.0, output = 5.0 }} (dollars per million tokens), or use '
                f"limits.tokens"
            )


async def close(models: Models) -> None:
    """Close connections, also where the run was cancelled."""
    with anyio.CancelScope(shield=True):
        await models.aclose()


async def open_store(task: Task, progress: Progress, stop: Stop, crew: Crew | None = None) -> Store | None:
    """The store that the task names, or that fits it, collected if need be; None if that was stopped."""
    if task.store is not None:
        return _named_store(task)
    return await collected(task, task.coder, progress, stop, crew)


def _named_store(task: Task) -> Store:
    assert task.store is not None
    path = task.base / task.store.path
    with naming(f"{task.source}: store.path"):
        store = Store.open(path)
    window = task.examples.window
    if store.context_length % window:
        raise TaskError(
            f"{task.source}: examples.window ({window}) has to divide the contexts of the store, {store.context_length}"
        )
    for coder in task.coder:
        if coder.name not in store.coder_names:
            known = ", ".join(store.coder_names)
            raise StoreError(f"{task.source}: coder.{coder.name}: the store {path} has no such coder; it has: {known}")
    check_sampling(task, store)
    return store


def _on_gpu(task: Task, plan: Plan, models: Models) -> bool:
    """Whether a worker's own models are on a GPU."""
    devices = [str((task.model.get(name) or {}).get("device", "")) for name in models.names()]
    if plan.subject is not None and task.subject is not None:
        devices.append(task.subject.device)
    return any(device.startswith("cuda") for device in devices)


def _more(now: Amount, before: Amount) -> Amount:
    """What was spent in between."""
    return Amount(now.tokens - before.tokens, (now.dollars or 0.0) - (before.dollars or 0.0))


def _units(plan: Plan, latents: Mapping[str, list[int]]) -> int:
    """How many units there are if everything can be explained."""
    per_latent = {
        coder: sum(not fixed(arm) for arm in plan.explanation_arms if arm.coder == coder)
        + sum(len(plan.scoring(arm)) for arm in plan.explanation_arms if arm.coder == coder)
        for coder in latents
    }
    return sum(per_latent[coder] * len(chosen) for coder, chosen in latents.items())
