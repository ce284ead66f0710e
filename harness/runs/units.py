"""A task's arms and who does their work, checked and ready; pure: nothing is drawn, rendered or asked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from harness import registry
from harness.clients.models import Models
from harness.clients.wants import Want
from harness.errors import TaskError
from harness.explainers.base import Explainer
from harness.runs.arms import CONSTANT, NO_EXPLANATION, ExplanationArm, ScoreArm, judges
from harness.runs.interventions import check_interventions
from harness.runs.keys import Ground, control_digest
from harness.runs.referring import referred
from harness.scorers.base import Scorer
from harness.task import CoderSettings, Control, ExplainerSettings, Rung, ScorerSettings, Task
from harness.validation import naming, validated

if TYPE_CHECKING:
    from harness.subject.texts import SubjectTexts

__all__ = ["BASELINE", "Plan", "PopulationPlace", "bound_subject", "made_explainer", "made_scorer", "make_plan"]

_Made = TypeVar("_Made", Explainer, Scorer)
# who writes the explanations of the control `lexical`
BASELINE = ExplainerSettings.model_validate({"name": "lexical", "kind": "contexts", "model": "lexical/rules"})


@dataclass(frozen=True, slots=True)
class PopulationPlace:
    """A population of random latents: its `name` as a coder, its control, the store that holds it and the coder."""

    name: str
    control: Control
    store_id: str
    coder: CoderSettings


@dataclass(frozen=True)
class Plan:
    """The explainers and scorers of a task, checked and ready, with their arms.

    `subject` reads texts for the scorers that need it, None where none does; who made the plan closes it. `baseline`
    writes the explanations of the control `lexical`. `interventions` tell those on each coder from any other, if there
    are any.
    """

    explainers: Mapping[str, Explainer]
    scorers: Mapping[str, Scorer]
    explanation_arms: tuple[ExplanationArm, ...]
    score_arms: tuple[ScoreArm, ...]
    subject: SubjectTexts | None = None
    baseline: Explainer | None = None
    interventions: Mapping[str, str] = field(default_factory=dict)

    async def aclose(self) -> None:
        """Free the subject, if it was loaded."""
        if self.subject is not None:
            await self.subject.aclose()

    def explainer(self, arm: ExplanationArm) -> Explainer:
        """Who writes the explanations of an arm that has its own (see `written`)."""
        found = self.baseline if arm.explainer is None else self.explainers[arm.explainer]
        assert found is not None
        return found

    @property
    def wants(self) -> tuple[Want, ...]:
        """What all of them want of their models."""
        asking = [*self.explainers.items(), *self.scorers.items()]
        return tuple(replace(want, by=name) for name, one in asking for want in one.wants)

    @property
    def pooled(self) -> tuple[Rung, ...]:
        """The rungs that explainers draw silent windows of."""
        return tuple(dict.fromkeys(rung for one in self.explainers.values() for rung in one.rungs))

    def real_arms(self, coder: str) -> tuple[ExplanationArm, ...]:
        """The explainers' own arms on a coder."""
        return tuple(arm for arm in self.explanation_arms if arm.coder == coder and arm.control is None)

    def control_arms(self, coder: str) -> tuple[ExplanationArm, ...]:
        """The controls on a coder."""
        return tuple(arm for arm in self.explanation_arms if arm.coder == coder and arm.control is not None)

    def scoring(self, arm: ExplanationArm) -> tuple[ScoreArm, ...]:
        """The scorers' arms that an explainer or control is scored by."""
        return tuple(score for score in self.score_arms if judges(score, arm))


def make_plan(task: Task, models: Models, store_id: str, populations: Sequence[PopulationPlace] = ()) -> Plan:
    """Check every kind's settings, connect the models and load the prompts; no network, no spending.

    `store_id` may be empty to check a task before there is a store, and `populations` left out.

    Raises:
        UserError: a kind, setting, model, prompt or key is wrong.
    """
    explainers = {s.name: made_explainer(s, models, task) for s in task.explainer}
    scorers = {s.name: made_scorer(s, models, task) for s in task.scorer}
    _check_rungs(task, scorers)
    subject = bound_subject(task, explainers, scorers, populations)
    changing = check_interventions(task, explainers, scorers, subject)
    baseline = made_explainer(BASELINE, models, task) if "lexical" in task.controls else None
    own = [Ground(task, store_id, coder.name, subject) for coder in task.coder]
    random = [Ground(task, one.store_id, one.name, subject) for one in populations]
    changed = {ground.coder: ground.interventions() for ground in (*own, *random) if changing}
    scoring = [arm for ground in (*own, *random) for arm in _scoring(ground, scorers, models)]
    explaining = [arm for ground in own for arm in _explaining(ground, task.controls, explainers, baseline)]
    for one, ground in zip(populations, random, strict=True):
        digests = {name: ground.explanation(made) for name, made in explainers.items()}
        explaining += [ExplanationArm(name, one.control, one.name, found) for name, found in digests.items()]
    if any(arm.blind for arm in scoring):
        beside, among = control_digest(NO_EXPLANATION), control_digest(NO_EXPLANATION, "random")
        explaining += [ExplanationArm(None, NO_EXPLANATION, ground.coder, beside) for ground in own]
        explaining += [ExplanationArm(None, one.control, one.name, among) for one in populations]
    return Plan(explainers, scorers, tuple(explaining), tuple(scoring), subject, baseline, changed)


def made_explainer(settings: ExplainerSettings, models: Models, task: Task) -> Explainer:
    """An explainer of a task, with its models connected.

    Raises:
        UserError: its kind, a setting, model, prompt or key is wrong.
    """
    with naming(f"{task.source}: explainer.{settings.name}") as where:
        kind = registry.load("explainers", settings.kind)
        options = validated(kind.Settings, referred(task, settings), where)
        return _drawn(kind(options, models, task.base), settings.sample)


def made_scorer(settings: ScorerSettings, models: Models, task: Task) -> Scorer:
    """A scorer of a task, as `made_explainer`."""
    with naming(f"{task.source}: scorer.{settings.name}") as where:
        kind = registry.load("scorers", settings.kind)
        return _drawn(kind(validated(kind.Settings, settings.options, where), models, task.base), settings.sample)


def _drawn(made: _Made, sample: int) -> _Made:
    """An explainer or scorer of which this draw is wanted: another one has results of its own."""
    if sample:
        made.identity = {**made.identity, "sample": sample}
    return made


def bound_subject(
    task: Task,
    explainers: Mapping[str, Explainer],
    scorers: Mapping[str, Scorer],
    populations: Sequence[PopulationPlace] = (),
) -> SubjectTexts | None:
    """Who reads texts, bound to the explainers and scorers that need or use it; nothing is loaded yet.

    Raises:
        UserError: a kind needs one, and the task has none that can be had.
    """
    both = (("explainer", explainers), ("scorer", scorers))
    needing = {f"{kind}.{name}": one for kind, ones in both for name, one in ones.items() if one.needs_subject}
    using = [one for one in explainers.values() if one.uses_subject and not one.needs_subject]
    readable = task.subject is not None and not any(coder.missing for coder in task.coder)
    if not needing and not (using and readable):
        return None
    with naming(f"{task.source}: {next(iter(needing), 'explainer')}"):
        if task.subject is None:
            raise TaskError(
                "this kind has texts read by the subject, and the task has none: add the [subject] that the store was "
                "collected from, or leave it out"
            )
        for coder in task.coder:
            if coder.missing:
                raise TaskError(f"this kind has texts read by coder.{coder.name}, and {coder.missing}")
    from harness.subject.texts import SubjectTexts

    with naming(task.source):
        subject = SubjectTexts(task.subject, (*task.coder, *(one.coder for one in populations)), task.base)
    for one in (*needing.values(), *using):
        one.bind(subject)
    return subject


def _explaining(
    ground: Ground, controls: Sequence[Control], explainers: Mapping[str, Explainer], baseline: Explainer | None
) -> list[ExplanationArm]:
    coder, arms = ground.coder, []
    for name, explainer in explainers.items():
        own = ground.explanation(explainer)
        arms.append(ExplanationArm(name, None, coder, own))
        if "shuffled" in controls:
            arms.append(ExplanationArm(name, "shuffled", coder, control_digest("shuffled", own)))
    for control in controls:
        if control in CONSTANT:
            arms.append(ExplanationArm(None, control, coder, control_digest(control)))
        elif control == "lexical" and baseline is not None:
            # not the digest of an equal explainer: there an explanation without a rule is none that failed
            own = control_digest(control, ground.explanation(baseline))
            arms.append(ExplanationArm(None, control, coder, own))
    return arms


def _scoring(ground: Ground, scorers: Mapping[str, Scorer], models: Models) -> list[ScoreArm]:
    chosen = {settings.name: settings.explainers for settings in ground.task.scorer}
    return [
        ScoreArm(
            name,
            scorer.models[0] if scorer.models else None,
            scorer.prompt,
            rung,
            ground.coder,
            ground.score(scorer, rung, models),
            scorer.metric,
            scorer.blind,
            scorer.chance,
            chosen[name],
        )
        for name, scorer in scorers.items()
        for rung in ground.task.examples.scored.rungs
        if scorer.takes(rung)
    ]


def _check_rungs(task: Task, scorers: Mapping[str, Scorer]) -> None:
    for rung in task.examples.scored.rungs:
        if not any(scorer.takes(rung) for scorer in scorers.values()):
            raise TaskError(
                f'{task.source}: examples.scored.rungs: no scorer is asked on "{rung}": add one that is, such as a '
                '[[scorer]] of kind "fuzzing"'
            )
