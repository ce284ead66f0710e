"""A run from its task to a finished directory: check, collect, choose latents, conduct, account for what failed."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from harness.runs.selection import check_pooled, check_sampling, choose
from harness.runs.stop import Stop
from harness.runs.units import Plan, make_plan
from harness.runs.watching import watched
from harness.store import CoderReader, Store
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
        for name, found in read_figures(store).items():
            for note in found.notes:
                progress.note(f"{name}: {note}")
            progress.note(f"{name}: {found}")
        await anyio.to_thread.run_sync(merge_workers, directory)
        beneath = None if part is None else part.beneath
        journal = await stack.enter_async_context(Journal(directory / JOURNAL, beneath))
        await BatchRows(journal).drop_unsent()
        limits = Limits(task.limits.requests) if part is None else part.limits
        budget = RunBudget(task.limits.spend, task.limits.tokens, journal.spent()) if part is None else part.budget
        conductor: Conductor | None = None

        def draining() -> bool:
            return stop.wished if conductor is None else conductor.draining

        batches = Batches(journal, budget, progress.note, draining, leaving=part is not None)
        stack.push_async_callback(batches.aclose)

        def wrap(client: Client) -> Client:
            settings = task.model.get(client.name, {})
            price = price_of(client.name, settings)
            live = assemble(client, journal, limits=limits, budget=budget, price=price, stopping=draining)
            return batches.wrap(client, live, settings) if settings.get("batch") is True else live

        models = Models(task.model, wrap)
        stack.push_async_callback(close, models)
        coders = {coder.name: store.coder(coder.name) for coder in task.coder}
        latents = {name: choose(task, coder, limit) for name, coder in coders.items()}
        populations = await open_populations(task, store, latents, progress, stop, crew=crew)
        if populations is None:
            return Outcome(directory, {}, interrupted=True)
        plan = ready(task, models, store, populations)
        stack.push_async_callback(plan.aclose)
        await probed(plan, models, task, progress)
        for one in populations:
            coders[one.reader.name], latents[one.reader.name] = one.reader, list(one.latents)
        await build_indexes(task, coders, latents, models, progress, plan.pooled)
        mine = None if part is None else part.of(latents)
        described = _record(task, store, plan, models, latents) | _of_populations(task, coders, latents, populations)
        record, changed = freeze(directory, journal, described)
        for line in changed:
            progress.note(f"changed since the last run here: {line}")
        await journal.begin(record, _descriptions(plan))
        await batches.collect()
        if crew is not None:
            before = journal.spent()
            many, gpus = sum(map(len, latents.values())), int(_on_gpu(task, plan, models))
            await crew.work(Order(task, directory, many, limit, gpus, models.accounts(), before, progress, stop))
            budget.settle(Amount(), _more(journal.spent(), before))
        cure = "limits.patience says how long to wait"
        while True:
            conductor = Conductor(task, plan, journal, coders, latents, progress, stop, retry_failed, mine)
            progress.begin(sum(map(len, latents.values())), _units(plan, latents), lambda: budget.spent)
            await watched(conductor.run, conductor.end, limits, task.limits.patience, progress.note, cure)
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
    # only a cancelled scope, left early, comes here
    return Outcome(directory, {}, interrupted=True)


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


def _record(task: Task, store: Store, plan: Plan, models: Models, latents: Mapping[str, list[int]]) -> dict[str, Any]:
    """All that decides or describes the results, JSON-able, for the journal and the frozen task."""
    figures = {name: asdict(found) for name, found in read_figures(store).items()}
    manifest = store.manifest
    changed = {"interventions": dict(plan.interventions)} if plan.interventions else {}
    found = {
        "id": store.id,
        "path": str(store.path.resolve()),
        "tokens": store.n_tokens,
        "model_revision": manifest.frame.model_revision,
        "coder_revisions": {coder.name: coder.revision for coder in manifest.coders},
        "figures": figures,
    }
    return {
        "task": task.model_dump(mode="json"),
        "source": task.source,
        "base": str(task.base.resolve()),
        "ranking": _ranking(task, plan),
        "store": found,
        "explanation_arms": [asdict(arm) for arm in plan.explanation_arms],
        "score_arms": [asdict(arm) for arm in plan.score_arms],
        "explainers": {name: dict(explainer.identity) for name, explainer in plan.explainers.items()},
        "scorers": {name: dict(scorer.identity) for name, scorer in plan.scorers.items()},
        "latents": dict(latents),
        "model_free": models.model_free(),
        **changed,
        "versions": _versions(),
    }


def _ranking(task: Task, plan: Plan) -> dict[str, Any]:
    """What arms are ranked by, with the scorer's own figure where the task names none."""
    given = task.ranking
    metric = given.metric or plan.scorers[given.scorer].metric
    return given.model_copy(update={"metric": metric}).model_dump(mode="json")


def _of_populations(
    task: Task,
    coders: Mapping[str, CoderReader],
    latents: Mapping[str, list[int]],
    populations: Sequence[Population],
) -> dict[str, Any]:
    """What the populations are, and in which share of windows each latent of theirs and of their coders fires."""
    if not populations:
        return {}
    window = task.examples.window
    rates = {
        name: (coder.windows(window)[latents[name]] / max(1, coder.store.n_windows(window))).tolist()
        for name, coder in coders.items()
    }
    described = {
        one.reader.name: {
            "of": one.of,
            "control": one.control,
            "revision": one.reader.revision,
            "matched": list(one.matched),
            "store": {"id": one.reader.store.id, "path": str(one.reader.store.path.resolve())},
        }
        for one in populations
    }
    return {"populations": described, "window_rates": rates}


def _descriptions(plan: Plan) -> dict[str, dict[str, Any]]:
    changed = {arm: {"interventions": coder} for coder, arm in plan.interventions.items()}
    return changed | {arm.digest: asdict(arm) for arm in (*plan.explanation_arms, *plan.score_arms)}


def _units(plan: Plan, latents: Mapping[str, list[int]]) -> int:
    """How many units there are if everything can be explained."""
    per_latent = {
        coder: sum(not fixed(arm) for arm in plan.explanation_arms if arm.coder == coder)
        + sum(len(plan.scoring(arm)) for arm in plan.explanation_arms if arm.coder == coder)
        for coder in latents
    }
    return sum(per_latent[coder] * len(chosen) for coder, chosen in latents.items())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("latent-harness", "torch", "transformers", "nnsight", "openai", "anthropic", "numpy", "scipy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
