"""Interventions on latents, made by the subject once for each latent, for whoever asks first, and kept as units."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.examples.cuts import Cut, Cuts, cuts
from harness.runs.interventions import intervention_key
from harness.runs.journal_rows import Unit
from harness.runs.units import Plan
from harness.store import CoderReader
from harness.subject.calibrate_search import Calibration
from harness.subject.intervened import Intervened
from harness.task import Task
from harness.values import Failure, Latent, Pair, Rise, seed_of

if TYPE_CHECKING:
    from harness.subject.texts import Loaded

__all__ = ["Interventions", "bind", "foreseen", "intervene"]

Found = Sequence[Intervened] | Failure


@dataclass(frozen=True, slots=True)
class Interventions:
    """The interventions of a plan; `once` gives a key's unit or has it made, and `make` does what is not there yet."""

    plan: Plan
    once: Callable[[str, Callable[[], Awaitable[Unit]]], Awaitable[Unit]]
    make: Callable[[Latent], Awaitable[Found]]

    async def intervened(self, latent: Latent) -> Found:
        """What a latent does at each target of the settings, or why that cannot be told.

        Raises:
            UserError: the subject cannot be changed there.
            Drained: the run is stopping.
        """
        arm = self.plan.interventions[latent.coder]
        key = intervention_key(arm, latent.index)
        unit = await self.once(key, partial(self._made, arm, key, latent))
        if unit.status != "ok":
            return Failure(unit.status, unit.result["message"])
        return tuple(map(Intervened.from_json, unit.result["targets"]))

    async def _made(self, arm: str, key: str, latent: Latent) -> Unit:
        found = await self.make(latent)
        if isinstance(found, Failure):
            return Unit(key, arm, latent.index, found.status, {"message": found.message})
        return Unit(key, arm, latent.index, "ok", {"targets": [one.as_json() for one in found]})


def bind(plan: Plan, source: Interventions) -> None:
    """From now on the plan's explainers and scorers have latents changed by `source`."""
    for one in (*plan.explainers.values(), *plan.scorers.values()):
        if one.targets:
            one.bind_interventions(source)


async def intervene(task: Task, plan: Plan, coders: Mapping[str, CoderReader], latent: Latent) -> Found:
    """Draw a latent's prompts and change it, on the torch worker.

    Raises:
        UserError: the subject cannot be loaded, or changed there.
    """
    prompts = _prompts(task, coders, latent)
    if isinstance(prompts, Failure):
        return prompts
    assert plan.subject is not None
    assert task.interventions is not None
    settings = task.interventions

    def work(loaded: Loaded, check: Callable[[], None]) -> list[Intervened]:
        from harness.subject.intervene import Intervening
        from harness.subject.threads import torch_threads

        with torch_threads(loaded.plan.subject.threads):
            doing = Intervening(loaded.steering(latent.coder), loaded.vocabulary, settings, check)
            seed = seed_of(task.drawing_seed, latent.coder, latent.index, "intervene")
            return doing.intervene(latent.index, prompts, seed)

    return await plan.subject.call(work)


def foreseen(task: Task, coders: Mapping[str, CoderReader], latent: Latent) -> Found:
    """What stands in for interventions where the subject is not asked: its own prompts, and words as long as any."""
    assert task.interventions is not None
    settings = task.interventions
    prompts = _prompts(task, coders, latent)
    if isinstance(prompts, Failure):
        return prompts
    moved = tuple((f" word{at}", 0.1) for at in range(settings.top))
    clean, steered = (word * settings.tokens for word in (" clean", " changed"))

    def pairs(drawn: Sequence[Cut], target: float) -> tuple[Pair, ...]:
        # what is asked of unlike texts is not one request
        return tuple(Pair(cut.text, clean, f"{steered} {target:g}", cut.place, cut.quantile) for cut in drawn)

    return [
        Intervened(
            Calibration(latent.index, target, target, target, "ok", ()),
            tuple(Rise(cut.text, moved) for cut in prompts.explain),
            Rise(None, moved, moved),
            Rise(None, moved, moved),
            pairs(prompts.select, target),
            pairs(prompts.score, target),
        )
        for target in settings.targets
    ]


def _prompts(task: Task, coders: Mapping[str, CoderReader], latent: Latent) -> Cuts | Failure:
    assert task.interventions is not None
    return cuts(coders[latent.coder], latent.index, task.interventions, task.examples.split, task.drawing_seed)
