"""The conductor: explains and scores latents concurrently and journals every unit as it is done."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio
import numpy as np
from numpy.typing import NDArray

from harness.clients.purpose import Purpose, on_behalf
from harness.clients.sampling import sampled
from harness.errors import Drained, HarnessError, OverBudget, RunEnding, UserError, Waiting
from harness.examples.draw import LatentExamples, draw
from harness.runs.arms import ExplanationArm, ScoreArm, constant, fixed
from harness.runs.intervening import Found, Interventions, bind, intervene
from harness.runs.journal import Journal
from harness.runs.journal_rows import Unit
from harness.runs.keys import explain_seed, explanation_key, score_key, score_seed, shuffled_key
from harness.runs.outcomes import RETRYABLE, explanation_of, explanation_unit, failed_unit, score_unit
from harness.runs.progress import Progress
from harness.runs.skimming import Skimmed, skim
from harness.runs.stop import Stop
from harness.runs.units import Plan
from harness.store import CoderReader
from harness.task import KindSettings, Task
from harness.values import Explanation, Failure, Latent, ScoredSet, Status

__all__ = ["Conductor"]

# a shuffled explanation comes from a latent whose decoder direction is not nearly the same
_UNLIKE = 0.3


@dataclass
class Conductor:
    """Works on the latents of one run.

    `latents` are the chosen ones by coder, in the seeded order; `retry_failed` does failed units again that were
    paid for. Once `stop` is wished or an account fails nothing new is asked: what is in flight is finished, and
    `run` returns. `mine` are the latents to work on where others work on the rest: all of them if None. `waiting`
    counts latents some requests of which go by batch and have no reply yet.
    """

    task: Task
    plan: Plan
    journal: Journal
    coders: Mapping[str, CoderReader]
    latents: Mapping[str, Sequence[int]]
    progress: Progress
    stop: Stop
    retry_failed: bool = False
    mine: Mapping[str, Sequence[int]] | None = None
    stopped_by: RunEnding | None = None
    statuses: Counter[Status] = field(default_factory=Counter)
    waiting: int = 0
    _mistake: UserError | None = None
    _flying: dict[str, _Shared] = field(default_factory=dict)
    _tried: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        bind(self.plan, Interventions(self.plan, self._unit, self._intervene))

    @property
    def draining(self) -> bool:
        """Whether nothing new is asked."""
        return self.stop.wished or self.stopped_by is not None or self._mistake is not None

    async def run(self) -> None:
        """Do every unit that is not done yet.

        Raises:
            UserError: a prompt fails on a question, or the journal cannot be written; what is in flight is finished.
        """
        work = self._left(await self._skimmed())
        async with anyio.create_task_group() as group:
            for _ in range(self.task.limits.latents):
                group.start_soon(self._worker, work)
        if self._mistake is not None:
            raise self._mistake

    @functools.cached_property
    def _position(self) -> dict[Latent, int]:
        """Where each latent stands in its coder's order."""
        return {Latent(coder, index): at for coder, indexes in self.latents.items() for at, index in enumerate(indexes)}

    @functools.cached_property
    def _others(self) -> frozenset[Latent]:
        """The latents that other workers work on."""
        if self.mine is None:
            return frozenset()
        mine = {Latent(coder, index) for coder, indexes in self.mine.items() for index in indexes}
        return frozenset(self._position.keys() - mine)

    async def _skimmed(self) -> Skimmed | None:
        """What the journal has, for seeing at once which latents are done; a worker's is too small for that to pay."""
        if self.mine is not None:
            return None
        plan = self.plan

        def look() -> Skimmed | None:
            return skim(
                self.journal, plan.explanation_arms, plan.score_arms, self.latents, stopping=lambda: self.draining
            )

        return await anyio.to_thread.run_sync(look)

    def _left(self, skimmed: Skimmed | None) -> Iterator[Latent]:
        """The latents of which anything is left to do; those that are done are counted."""
        for coder, indexes in (self.latents if self.mine is None else self.mine).items():
            done = None if skimmed is None else self._done_latents(skimmed, coder)
            yield from (Latent(coder, index) for at, index in enumerate(indexes) if done is None or not done[at])

    def _done_latents(self, skimmed: Skimmed, coder: str) -> NDArray[np.bool_]:
        """Which latents of a coder are done, `[latents]`."""
        arms = [at for at, arm in enumerate(self.plan.explanation_arms) if arm.coder == coder]
        found = skimmed.done(arms, failed_again=self.retry_failed)
        for status, count in found.statuses.items():
            self.statuses[status] += count
            for _ in range(count):
                self.progress.unit(status)
        for _ in range(int(found.done.sum())):
            self.progress.latent()
        return found.done

    def end(self, error: RunEnding) -> None:
        """Ask nothing new from here on."""
        self._note(error)

    async def _worker(self, work: Iterator[Latent]) -> None:
        for latent in work:
            if self.draining:
                return
            try:
                await self._latent(latent)
                self.progress.latent()
            except Waiting:
                self.waiting += 1
            except (RunEnding, Drained, UserError):
                return

    async def _latent(self, latent: Latent) -> None:
        examples = functools.cache(functools.partial(self._draw, latent))
        arms = (*self.plan.real_arms(latent.coder), *self.plan.control_arms(latent.coder))
        await _together([functools.partial(self._arm, arm, latent, examples) for arm in arms])

    async def _arm(self, arm: ExplanationArm, latent: Latent, examples: Callable[[], _Drawn]) -> None:
        try:
            explanation = await self._explanation(arm, latent, examples, count=True)
        except _Elsewhere:
            return
        if isinstance(explanation, Failure):
            return
        scoring = self.plan.scoring(arm)
        await _together([functools.partial(self._score, s, latent, explanation, examples) for s in scoring])

    # explanations

    async def _explanation(
        self, arm: ExplanationArm, latent: Latent, examples: Callable[[], _Drawn], *, count: bool
    ) -> Explanation | Failure | None:
        if fixed(arm):
            return constant(arm.control)
        if arm.control == "shuffled":
            key = shuffled_key(arm, latent.index, self._following(latent, 1).index)
            do = functools.partial(self._shuffle, arm, latent, key)
        else:
            key = explanation_key(arm, latent.index)
            do = functools.partial(self._explain, arm, latent, key, examples)
        return explanation_of(await self._once(key, do, count=count))

    async def _explain(self, arm: ExplanationArm, latent: Latent, key: str, examples: Callable[[], _Drawn]) -> Unit:
        drawn = examples()
        if isinstance(drawn, Failure):
            return explanation_unit(key, arm, latent, drawn)
        seed = explain_seed(self.task.drawing_seed, latent)
        sample = _sample(self.task.explainer, arm.explainer)
        with on_behalf(Purpose("explain", arm.digest, latent.index)), sampled(sample):
            try:
                explained = await self.plan.explainer(arm).explain(drawn, seed)
            except OverBudget as error:
                self._note(error)
                return explanation_unit(key, arm, latent, Failure("over_budget", error.message))
        answer = explained.explanation
        if arm.control == "lexical" and isinstance(answer, Explanation) and answer.rule is None:
            answer = Failure("no_rule", f"the lexical baseline found no rule: {answer.text}")
        unit = explanation_unit(key, arm, latent, answer, explained.replies, explained.usage)
        noted = {"notes": dict(explained.notes)} if explained.notes else {}
        return replace(unit, result={**unit.result, **noted, "examples": dict(drawn.counts)})

    async def _shuffle(self, arm: ExplanationArm, latent: Latent, key: str) -> Unit:
        """The explanation of the next latent in the cycle that has one and is unlike this latent.

        The unit is pending where a later run may find a nearer partner: one passed over has no explanation for a
        passing reason, or the cycle, which `--limit` cuts short, was gone through to its end.
        """
        own = next(a for a in self.plan.real_arms(latent.coder) if a.explainer == arm.explainer)
        left = len(self.latents[latent.coder]) - self._position[latent]
        pending = False
        for step in range(1, len(self.latents[latent.coder])):
            pending = pending or step == left > 1
            partner = self._following(latent, step)
            if self._alike(latent, partner):
                continue
            if partner in self._others:
                raise _Elsewhere("another worker explains the partner of this latent")
            examples = functools.cache(functools.partial(self._draw, partner))
            explanation = await self._explanation(own, partner, examples, count=False)
            if isinstance(explanation, Explanation):
                unit = explanation_unit(key, arm, latent, explanation, partner=partner.index)
                return replace(unit, pending=pending)
            pending = pending or (isinstance(explanation, Failure) and explanation.status in RETRYABLE)
        nobody = Failure("no_partner", "no other latent has an explanation to swap")
        return replace(explanation_unit(key, arm, latent, nobody), pending=True)

    def _following(self, latent: Latent, step: int) -> Latent:
        cycle = self.latents[latent.coder]
        return Latent(latent.coder, cycle[(self._position[latent] + step) % len(cycle)])

    def _alike(self, latent: Latent, other: Latent) -> bool:
        decoder = self.coders[latent.coder].decoder
        if decoder is None:
            return False
        one, two = decoder[latent.index].astype(np.float64), decoder[other.index].astype(np.float64)
        norms = float(np.linalg.norm(one) * np.linalg.norm(two))
        return norms > 0 and float(one @ two) / norms >= _UNLIKE

    # scores

    async def _score(
        self, arm: ScoreArm, latent: Latent, explanation: Explanation | None, examples: Callable[[], _Drawn]
    ) -> None:
        key = score_key(arm, latent.index, explanation)
        do = functools.partial(self._ask_scorer, arm, latent, key, explanation, examples)
        await self._once(key, do, count=True)

    async def _ask_scorer(
        self,
        arm: ScoreArm,
        latent: Latent,
        key: str,
        explanation: Explanation | None,
        examples: Callable[[], _Drawn],
    ) -> Unit:
        drawn = examples()
        scored_set = drawn if isinstance(drawn, Failure) else _rung(drawn, arm.rung)
        if isinstance(scored_set, Failure):
            return failed_unit(key, arm.digest, latent.index, scored_set)
        seed = score_seed(self.task.drawing_seed, latent, arm.rung)
        sample = _sample(self.task.scorer, arm.scorer)
        with on_behalf(Purpose("score", arm.digest, latent.index)), sampled(sample):
            try:
                scored = await self.plan.scorers[arm.scorer].score(explanation, scored_set, seed)
            except OverBudget as error:
                self._note(error)
                return failed_unit(key, arm.digest, latent.index, Failure("over_budget", error.message))
        return score_unit(key, arm, latent, scored)

    # shared

    def _draw(self, latent: Latent) -> _Drawn:
        coder, least = self.coders[latent.coder], self.task.latents.min_examples
        return draw(coder, latent.index, self.task.examples, self.task.drawing_seed, min_examples=least)

    async def _intervene(self, latent: Latent) -> Found:
        return await intervene(self.task, self.plan, self.coders, latent)

    async def _once(self, key: str, do: Callable[[], Awaitable[Unit]], *, count: bool) -> Unit:
        """The unit of a key: from the journal, from whoever is at it, or done now and committed; counted if wished."""
        unit = await self._unit(key, do)
        if count:
            self.statuses[unit.status] += 1
            self.progress.unit(unit.status)
        return unit

    async def _unit(self, key: str, do: Callable[[], Awaitable[Unit]]) -> Unit:
        if key in self._flying:
            return await self._flying[key].wait()
        unit = self.journal.unit(key)
        if unit is not None and (key in self._tried or not self._again(unit)):
            return unit
        if self.draining:
            raise Drained("the run is stopping")
        shared = self._flying[key] = _Shared()
        try:
            if unit is not None and not unit.pending:
                await self.journal.forget(unit.replies)
            unit = await self._done(unit, do)
            # a unit rests on replies that are paid for: once it is there, only its commit may end
            with anyio.CancelScope(shield=True):
                await self.journal.finish(unit)
            shared.give(unit)
        except BaseException as error:
            self._note(error)
            shared.fail(error)
            raise
        finally:
            del self._flying[key]
        if self._again(unit):
            # what fails is tried again in the next run, not whenever another arm of this one asks for it
            self._tried.add(key)
        return unit

    async def _done(self, failed: Unit | None, do: Callable[[], Awaitable[Unit]]) -> Unit:
        try:
            return await do()
        except Waiting:
            if failed is not None and not failed.pending:
                # what comes by batch is for a later run, which need not be told again to do it
                await self.journal.finish(replace(failed, replies=(), pending=True))
            raise

    def _again(self, unit: Unit) -> bool:
        return unit.pending or (self.retry_failed and unit.status != "ok")

    def _note(self, error: BaseException) -> None:
        """What ends the run: from here on nothing new is asked."""
        if isinstance(error, RunEnding):
            self.stopped_by = self.stopped_by or error
        elif isinstance(error, UserError):
            self._mistake = self._mistake or error


_Drawn = LatentExamples | Failure


class _Elsewhere(HarnessError):
    """A unit needs what another worker does: it is left undone rather than paid for twice."""


class _Shared:
    """A unit that somebody is at and others wait for."""

    def __init__(self) -> None:
        self._done = anyio.Event()
        self._unit: Unit | None = None
        self._error: Exception | None = None

    def give(self, unit: Unit) -> None:
        self._unit = unit
        self._done.set()

    def fail(self, error: BaseException) -> None:
        self._error = error if isinstance(error, Exception) else Drained("the run is stopping")
        self._done.set()

    async def wait(self) -> Unit:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._unit is not None
        return self._unit


async def _together(tasks: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run all; one that must stop does not cancel the others, whose requests are paid for."""
    stopped: list[HarnessError] = []

    async def one(task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except (RunEnding, Drained, UserError) as error:
            stopped.append(error)

    async with anyio.create_task_group() as group:
        for task in tasks:
            group.start_soon(one, task)
    # what set the draining off says more than the draining
    for error in sorted(stopped, key=lambda found: isinstance(found, Drained)):
        raise error


def _sample(settings: Sequence[KindSettings], name: str | None) -> int:
    """Which draw of what its models write an explainer or scorer is to have."""
    return next((one.sample for one in settings if one.name == name), 0)


def _rung(examples: LatentExamples, rung: str) -> ScoredSet | Failure:
    for scored in examples.scored:
        if scored.rung == rung:
            return scored
    return Failure("too_few_examples", f'rung "{rung}" has too few examples of latent {examples.latent.index}')
