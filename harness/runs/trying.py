"""One latent, looked at closely: its windows, the exact prompts, the raw replies and the verdicts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.clients import Limits, RunBudget, assemble, price_of
from harness.clients.models import Models
from harness.clients.observing import Observing
from harness.clients.protocol import Client, Reply, Request
from harness.clients.sampling import sampled
from harness.errors import RunEnding, RunStopped
from harness.examples.draw import LatentExamples, draw
from harness.explainers.base import Explained
from harness.runs.directory import JOURNAL, held
from harness.runs.indexing import build_indexes
from harness.runs.intervening import Interventions, bind, intervene
from harness.runs.journal import Journal
from harness.runs.journal_rows import Unit
from harness.runs.keys import explain_seed, score_seed
from harness.runs.progress import Progress
from harness.runs.running import check, close, open_store, probed, ready
from harness.runs.selection import named, reader_of
from harness.runs.stop import Stop
from harness.runs.units import Plan
from harness.scorers.base import Scored
from harness.task import Task
from harness.values import Explanation, Failure, ScoredSet

__all__ = ["Attempt", "Exchange", "Judged", "attempt"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its reply."""

    model: str
    request: Request
    reply: Reply


@dataclass(frozen=True, slots=True)
class Judged:
    """What a scorer said of one rung's examples, with what it was asked."""

    scorer: str
    examples: ScoredSet
    scored: Scored
    exchanges: tuple[Exchange, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One explainer's attempt at a latent."""

    explainer: str
    explained: Explained
    exchanges: tuple[Exchange, ...]
    judged: tuple[Judged, ...]


async def attempt(
    task: Task, latent: int, coder: str | None, directory: Path, progress: Progress
) -> tuple[LatentExamples | Failure, list[Attempt]]:
    """Explain and score one latent with every explainer and scorer of a task.

    Replies are kept in the directory's journal, so that trying again costs only what changed; no unit is written.

    Raises:
        UserError: the task, the coder's name or the latent is wrong.
        RunStopped: an account cannot be used.
    """
    name = named(task, coder)
    await check(task)
    async with AsyncExitStack() as stack:
        stack.enter_context(held(directory))
        store = await open_store(task, progress, Stop())
        assert store is not None
        reader = reader_of(store, name, latent)
        journal = await stack.enter_async_context(Journal(directory / JOURNAL))
        seen: list[Exchange] = []
        limits = Limits(task.limits.requests)
        budget = RunBudget(task.limits.spend, task.limits.tokens, journal.spent())

        def wrap(client: Client) -> Client:
            price = price_of(client.name, task.model.get(client.name))
            layered = assemble(client, journal, limits=limits, budget=budget, price=price)
            return Observing(layered, lambda request, reply: seen.append(Exchange(client.name, request, reply)))

        models = Models(task.model, wrap)
        stack.push_async_callback(close, models)
        plan = ready(task, models, store)
        stack.push_async_callback(plan.aclose)
        await probed(plan, models, task, progress)
        bind(plan, Interventions(plan, _kept(journal), partial(intervene, task, plan, {name: reader})))
        await build_indexes(task, {name: reader}, {name: [latent]}, models, progress, plan.pooled)
        examples = draw(reader, latent, task.examples, task.drawing_seed, min_examples=task.latents.min_examples)
        if isinstance(examples, Failure):
            return examples, []
        try:
            return examples, [await _attempt(task, plan, explainer, examples, seen) for explainer in plan.explainers]
        except RunEnding as error:
            raise RunStopped(str(error)) from error


def _kept(journal: Journal) -> Callable[[str, Callable[[], Awaitable[Unit]]], Awaitable[Unit]]:
    """Gives units that a run left in the journal, else makes them, each once; none is written."""
    made: dict[str, Unit] = {}

    async def once(key: str, do: Callable[[], Awaitable[Unit]]) -> Unit:
        if key not in made:
            made[key] = journal.unit(key) or await do()
        return made[key]

    return once


async def _attempt(task: Task, plan: Plan, name: str, examples: LatentExamples, seen: list[Exchange]) -> Attempt:
    latent = examples.latent
    seen.clear()
    seed = explain_seed(task.drawing_seed, latent)
    with sampled(next(one.sample for one in task.explainer if one.name == name)):
        explained = await plan.explainers[name].explain(examples, seed)
    made = Attempt(name, explained, tuple(seen), ())
    if isinstance(explained.explanation, Failure):
        return made
    judged = [
        await _judge(task, plan, arm.scorer, scored_set, explained.explanation, examples, seen)
        for arm in plan.score_arms
        for scored_set in examples.scored
        if arm.coder == latent.coder and scored_set.rung == arm.rung and (not arm.explainers or name in arm.explainers)
    ]
    return replace(made, judged=tuple(judged))


async def _judge(
    task: Task,
    plan: Plan,
    scorer: str,
    scored_set: ScoredSet,
    explanation: Explanation,
    examples: LatentExamples,
    seen: list[Exchange],
) -> Judged:
    seen.clear()
    latent = examples.latent
    seed = score_seed(task.drawing_seed, latent, scored_set.rung)
    with sampled(next(one.sample for one in task.scorer if one.name == scorer)):
        scored = await plan.scorers[scorer].score(explanation, scored_set, seed)
    return Judged(scorer, scored_set, scored, tuple(seen))
