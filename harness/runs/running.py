"""A run from its task to a finished directory: check, collect, choose latents, conduct, account for what failed."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio

from harness.clients import Client, Limits, RunBudget, assemble, price_of
from harness.clients.models import Models
from harness.errors import StoreError, TaskError
from harness.runs.conductor import Conductor
from harness.runs.directory import JOURNAL, freeze, held
from harness.runs.indexing import build_indexes, check_embedder
from harness.runs.journal import Journal
from harness.runs.probing import check_wants, learn_wants
from harness.runs.progress import Progress, Silent
from harness.runs.selection import check_sampling, choose
from harness.runs.stop import Stop
from harness.runs.units import CONSTANT, Plan, make_plan, naming
from harness.runs.watching import watched
from harness.store import Store
from harness.subject.collect import collect, read_figures, store_config
from harness.subject.worker import Caller, worker
from harness.task import Task
from harness.values import Status

__all__ = ["Outcome", "check", "close", "conduct", "default_directory", "open_store", "probed", "ready", "store_folder"]

# where collected stores lie, under the working directory; runs of equal settings share one
_STORES = Path("stores")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: units by status, and what stopped it, if anything did, in one sentence."""

    directory: Path
    statuses: Mapping[Status, int]
    stopped_by: str | None = None
    interrupted: bool = False

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
) -> Outcome:
    """Do a task, or finish it: everything that is already in the directory's journal is left as it is.

    Raises:
        UserError: the task or something that it names is wrong; nothing was spent then.
    """
    stop = stop or Stop()
    progress = progress or Silent()
    async with AsyncExitStack() as stack:
        stack.enter_context(stop.scope)
        await check(task)
        stack.enter_context(held(directory))
        store = await open_store(task, progress, stop)
        if store is None:
            return Outcome(directory, {}, interrupted=True)
        for name, found in read_figures(store).items():
            for note in found.notes:
                progress.note(f"{name}: {note}")
            progress.note(f"{name}: {found}")
        journal = await stack.enter_async_context(Journal(directory / JOURNAL))
        limits = Limits(task.limits.requests)
        budget = RunBudget(task.limits.spend, task.limits.tokens, journal.spent())
        conductor: Conductor | None = None

        def draining() -> bool:
            return stop.wished if conductor is None else conductor.draining

        def wrap(client: Client) -> Client:
            price = price_of(client.name, task.model.get(client.name))
            return assemble(client, journal, limits=limits, budget=budget, price=price, stopping=draining)

        models = Models(task.model, wrap)
        stack.push_async_callback(close, models)
        plan = ready(task, models, store)
        stack.push_async_callback(plan.aclose)
        await probed(plan, models, task, progress)
        coders = {coder.name: store.coder(coder.name) for coder in task.coder}
        latents = {name: choose(task, coder, limit) for name, coder in coders.items()}
        await build_indexes(task, store, latents, models, progress)
        conductor = Conductor(task, plan, journal, coders, latents, progress, stop, retry_failed)
        record, changed = freeze(directory, journal, _record(task, store, plan, models, latents))
        for line in changed:
            progress.note(f"changed since the last run here: {line}")
        await journal.begin(record, _descriptions(plan))
        progress.begin(sum(map(len, latents.values())), _units(plan, latents), lambda: budget.spent)
        cure = "limits.patience says how long to wait"
        await watched(conductor.run, conductor.end, limits, task.limits.patience, progress.note, cure)
        stopped = None if conductor.stopped_by is None else str(conductor.stopped_by)
        return Outcome(directory, dict(conductor.statuses), stopped, interrupted=stop.wished)
    # only a cancelled scope, left early, comes here
    return Outcome(directory, {}, interrupted=True)


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


def ready(task: Task, models: Models, store: Store) -> Plan:
    """The task's plan on a store, which has to be of the subject that texts are read by.

    Raises:
        UserError: as `make_plan`, or the store is another subject's.
    """
    plan = make_plan(task, models, store.id)
    if plan.subject is not None:
        with naming(f"{task.source}: subject"):
            plan.subject.check(store)
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


async def open_store(task: Task, progress: Progress, stop: Stop) -> Store | None:
    """The store that the task names, or that fits it, collected if need be; None if that was stopped."""
    if task.store is not None:
        return _named_store(task)
    subject = task.subject
    assert subject is not None

    def work(caller: Caller) -> Store:
        def tell(done: int, total: int) -> None:
            caller.check()
            if stop.wished:
                raise _StoppedCollecting
            progress.collecting(done, total)

        return collect(subject, task.coder, store_folder(task), tell, task.base)

    try:
        with naming(task.source):
            return await worker(subject.device).call(work)
    except _StoppedCollecting:
        return None


def store_folder(task: Task) -> Path:
    """Where the store lies, or will lie, that fits a task with a subject."""
    assert task.subject is not None
    return _STORES / store_config(task.subject, task.coder, task.base)[:16]


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


class _StoppedCollecting(BaseException):
    """The wish to stop, carried out of the thread that collects."""


def _record(task: Task, store: Store, plan: Plan, models: Models, latents: Mapping[str, list[int]]) -> dict[str, Any]:
    """All that decides or describes the results, JSON-able, for the journal and the frozen task."""
    figures = {name: asdict(found) for name, found in read_figures(store).items()}
    manifest = store.manifest
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
        "ranking": _ranking(task, plan),
        "store": found,
        "explanation_arms": [asdict(arm) for arm in plan.explanation_arms],
        "score_arms": [asdict(arm) for arm in plan.score_arms],
        "explainers": {name: dict(explainer.identity) for name, explainer in plan.explainers.items()},
        "scorers": {name: dict(scorer.identity) for name, scorer in plan.scorers.items()},
        "latents": dict(latents),
        "model_free": models.model_free(),
        "versions": _versions(),
    }


def _ranking(task: Task, plan: Plan) -> dict[str, Any]:
    """What arms are ranked by, with the scorer's own figure where the task names none."""
    given = task.ranking
    metric = given.metric or plan.scorers[given.scorer].metric
    return given.model_copy(update={"metric": metric}).model_dump(mode="json")


def _descriptions(plan: Plan) -> dict[str, dict[str, Any]]:
    return {arm.digest: asdict(arm) for arm in (*plan.explanation_arms, *plan.score_arms)}


def _units(plan: Plan, latents: Mapping[str, list[int]]) -> int:
    """How many units there are if everything can be explained."""
    per_latent = {
        coder: sum(arm.control not in CONSTANT for arm in plan.explanation_arms if arm.coder == coder)
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
