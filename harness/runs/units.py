"""A task's arms and units of work with their keys; pure: nothing is drawn, rendered or asked here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness import registry
from harness.clients.models import Models
from harness.clients.wants import Want
from harness.errors import TaskError, UserError
from harness.examples.rungs import HARD
from harness.explainers.base import Explainer
from harness.runs.interventions import check_interventions, intervention_digest
from harness.runs.referring import referred
from harness.scorers.base import Scorer
from harness.task import POPULATIONS, CoderSettings, Control, ExplainerSettings, Rung, ScorerSettings, Task
from harness.validation import validated
from harness.values import Explanation, Latent, digest, seed_of

if TYPE_CHECKING:
    from harness.subject.texts import SubjectTexts

__all__ = [
    "CONSTANT",
    "GENERIC",
    "NO_EXPLANATION",
    "ExplanationArm",
    "Plan",
    "PopulationPlace",
    "ScoreArm",
    "alone",
    "arm_label",
    "constant",
    "explain_seed",
    "explanation_key",
    "fixed",
    "judges",
    "latent_order",
    "make_plan",
    "naming",
    "score_key",
    "score_seed",
    "shuffled_key",
    "written",
]

_Made = TypeVar("_Made", Explainer, Scorer)
# raised when the same task would give other results than before
_VERSION = 3

# what stands in the place of an explanation where scorers judge none
NO_EXPLANATION = "latent"
# controls whose words are the same for every latent
CONSTANT = ("none", "generic", NO_EXPLANATION)
# who writes the explanations of the control `lexical`
_BASELINE = ExplainerSettings.model_validate({"name": "lexical", "kind": "contexts", "model": "lexical/rules"})
GENERIC = Explanation("Various unrelated words and phrases in ordinary text.")


@dataclass(frozen=True, slots=True)
class ExplanationArm:
    """One explainer or control on one coder; `explainer` is None for controls that need no explainer.

    On a population of random latents (`coder` is its name) the control is the population's.
    """

    explainer: str | None
    control: str | None
    coder: str
    digest: str


@dataclass(frozen=True, slots=True)
class PopulationPlace:
    """A population of random latents: its `name` as a coder, its control, the store that holds it and the coder."""

    name: str
    control: Control
    store_id: str
    coder: CoderSettings


@dataclass(frozen=True, slots=True)
class ScoreArm:
    """One scorer on one rung of one coder; `metric` is what it is ranked by, `blind` ones judge no explanation.

    `chance` is what that figure is by guessing, None where it is that of `harness.metrics.CHANCE`. `explainers` are
    those whose explanations it judges, None for all.
    """

    scorer: str
    model: str | None
    prompt: str
    rung: str
    coder: str
    digest: str
    metric: str = "balanced_accuracy"
    blind: bool = False
    chance: float | None = None
    explainers: Sequence[str] | None = None


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
    explainers = {s.name: _explainer(s, models, task) for s in task.explainer}
    scorers = {s.name: _scorer(s, models, task) for s in task.scorer}
    _check_rungs(task, scorers)
    subject = _subject(task, explainers, scorers, populations)
    changing = check_interventions(task, explainers, scorers, subject)
    coders = [coder.name for coder in task.coder]
    baseline = _explainer(_BASELINE, models, task) if "lexical" in task.controls else None
    places = [*((coder, store_id) for coder in coders), *((one.name, one.store_id) for one in populations)]
    changed = {name: intervention_digest(task, store, name, subject) for name, store in places if changing and subject}
    scoring = [arm for coder, store in places for arm in _scoring(task, scorers, models, store, coder, subject)]
    explaining = [arm for coder in coders for arm in _explaining(task, explainers, baseline, store_id, coder, subject)]
    for one in populations:
        digests = {name: _own(task, made, one.store_id, one.name, subject) for name, made in explainers.items()}
        explaining += [ExplanationArm(name, one.control, one.name, own) for name, own in digests.items()]
    if any(arm.blind for arm in scoring):
        beside = digest([_VERSION, NO_EXPLANATION])
        explaining += [ExplanationArm(None, NO_EXPLANATION, coder, beside) for coder in coders]
        random = digest([_VERSION, NO_EXPLANATION, "random"])
        explaining += [ExplanationArm(None, one.control, one.name, random) for one in populations]
    return Plan(explainers, scorers, tuple(explaining), tuple(scoring), subject, baseline, changed)


def latent_order(seed: int, coder: str, n_latents: int) -> NDArray[np.int64]:
    """All latents of a coder in the seeded order: `[latents]`, the same prefix for every sample size."""
    start = np.uint64(seed_of(seed, coder, "latents"))
    with np.errstate(over="ignore"):  # the mixing is arithmetic modulo 2 ** 64
        mixed = np.arange(n_latents, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return np.argsort(mixed, kind="stable")


def explanation_key(arm: ExplanationArm, latent: int) -> str:
    """The key of one explanation."""
    return digest([arm.digest, latent])


def shuffled_key(arm: ExplanationArm, latent: int, following: int) -> str:
    """The key of one shuffled explanation: also of which latent comes next in the cycle."""
    return digest([arm.digest, latent, following])


def score_key(arm: ScoreArm, latent: int, explanation: Explanation | None) -> str:
    """The key of one score: equal explanations are scored once."""
    return digest([arm.digest, latent, None if explanation is None else explanation.identity()])


def explain_seed(seed: int, latent: Latent) -> int:
    """What random choices in explaining a latent follow, the same for every arm."""
    return seed_of(seed, latent.coder, latent.index, "explain")


def score_seed(seed: int, latent: Latent, rung: str) -> int:
    """What random choices in scoring a latent on a rung follow, the same for every arm and scorer."""
    return seed_of(seed, latent.coder, latent.index, "score", rung)


def constant(control: str | None) -> Explanation | None:
    """The explanation of a control whose words are the same for every latent: `generic`, or None for the others."""
    return GENERIC if control == "generic" else None


def fixed(arm: ExplanationArm) -> bool:
    """Whether an arm's words are the same for every latent, or there are none to judge."""
    return arm.control in CONSTANT or alone(arm)


def written(arm: ExplanationArm) -> bool:
    """Whether an arm's explanations are written for its own latents: neither constant nor another latent's."""
    return not fixed(arm) and arm.control != "shuffled"


def alone(arm: ExplanationArm) -> bool:
    """Whether an arm is of latents alone, the coder's own or random ones, for scorers that judge no explanation."""
    return arm.explainer is None and arm.control in (NO_EXPLANATION, *POPULATIONS)


def arm_label(explainer: str | None, control: str | None) -> str:
    """What a reader calls an arm: `mini`, `mini (shuffled)`, `none` or `lexical baseline`."""
    if control is None:
        return str(explainer)
    if explainer in (None, control):
        # an explainer is often called lexical, too
        return "lexical baseline" if control == "lexical" else control
    return f"{explainer} ({control})"


def judges(score: ScoreArm, arm: ExplanationArm) -> bool:
    """Whether a scorer's arm judges an explainer or control: blind ones stand beside no explanation at all."""
    chosen = score.explainers is None or arm.explainer is None or arm.explainer in score.explainers
    return score.coder == arm.coder and score.blind == alone(arm) and chosen


def _explainer(settings: ExplainerSettings, models: Models, task: Task) -> Explainer:
    with naming(f"{task.source}: explainer.{settings.name}") as where:
        kind = registry.load("explainers", settings.kind)
        return _drawn(
            kind(validated(kind.Settings, referred(task, settings), where), models, task.base), settings.sample
        )


def _scorer(settings: ScorerSettings, models: Models, task: Task) -> Scorer:
    with naming(f"{task.source}: scorer.{settings.name}") as where:
        kind = registry.load("scorers", settings.kind)
        return _drawn(kind(validated(kind.Settings, settings.options, where), models, task.base), settings.sample)


def _drawn(made: _Made, sample: int) -> _Made:
    """An explainer or scorer of which this draw is wanted: another one has results of its own."""
    if sample:
        made.identity = {**made.identity, "sample": sample}
    return made


def _subject(
    task: Task,
    explainers: Mapping[str, Explainer],
    scorers: Mapping[str, Scorer],
    populations: Sequence[PopulationPlace],
) -> SubjectTexts | None:
    """Who reads texts, bound to the explainers and scorers that need or use it; nothing is loaded yet."""
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


@contextmanager
def naming(where: str) -> Iterator[str]:
    """Inside, what is wrong says where: a task file, or a table of it."""
    try:
        yield where
    except UserError as error:
        if str(error).startswith(where):
            raise
        raise type(error)(f"{where}: {error}") from error


def _drawing(task: Task, part: str) -> dict[str, Any]:
    """What decides the examples of a part (`shown` or `scored`): no rung changes another rung's examples."""
    examples = task.examples.model_dump(mode="json")
    drawn = {key: value for key, value in examples[part].items() if key not in ("rungs", "embedder")}
    made = {"window": examples["window"], "split": examples["split"], part: drawn, "seed": task.drawing_seed}
    return made if examples["peak"] is None else made | {"peak": examples["peak"]}


def _explaining(
    task: Task,
    explainers: Mapping[str, Explainer],
    baseline: Explainer | None,
    store_id: str,
    coder: str,
    subject: SubjectTexts | None,
) -> list[ExplanationArm]:
    arms = []
    for name, explainer in explainers.items():
        own = _own(task, explainer, store_id, coder, subject)
        arms.append(ExplanationArm(name, None, coder, own))
        if "shuffled" in task.controls:
            arms.append(ExplanationArm(name, "shuffled", coder, digest([_VERSION, "shuffled", own])))
    for control in task.controls:
        if control in CONSTANT:
            arms.append(ExplanationArm(None, control, coder, digest([_VERSION, control])))
        elif control == "lexical" and baseline is not None:
            # not the digest of an equal explainer: there an explanation without a rule is none that failed
            own = digest([_VERSION, control, _own(task, baseline, store_id, coder, None)])
            arms.append(ExplanationArm(None, control, coder, own))
    return arms


def _own(task: Task, explainer: Explainer, store_id: str, coder: str, subject: SubjectTexts | None) -> str:
    """The digest of an explainer's own arm on a coder."""
    parts = [_VERSION, "explanation", dict(explainer.identity), _drawing(task, "shown"), store_id, coder]
    asks = explainer.needs_subject or explainer.uses_subject
    asked = [subject.identity(coder)] if subject is not None and asks else []
    # scored windows decide which shown ones are dropped as near copies
    return digest(
        [
            *parts,
            _drawing(task, "scored"),
            task.latents.min_examples,
            *asked,
            *_changed(explainer, task, store_id, coder, subject),
        ]
    )


def _changed(one: Explainer | Scorer, task: Task, store_id: str, coder: str, subject: SubjectTexts | None) -> list[str]:
    """What decides the interventions that an explainer or scorer looks at."""
    return [intervention_digest(task, store_id, coder, subject)] if one.targets and subject is not None else []


def _decides(task: Task, rung: Rung, models: Models) -> list[Any]:
    """What decides the scored examples of a rung; those of hard rungs make way for what is shown."""
    parts: list[Any] = [_drawing(task, part) for part in (("scored", "shown") if rung in HARD else ("scored",))]
    embedder = task.examples.scored.embedder
    return [*parts, models.identity(embedder)] if rung == "semantic" and embedder else parts


def _scoring(
    task: Task,
    scorers: Mapping[str, Scorer],
    models: Models,
    store_id: str,
    coder: str,
    subject: SubjectTexts | None,
) -> list[ScoreArm]:
    read = [] if subject is None else [subject.identity(coder)]
    chosen = {settings.name: settings.explainers for settings in task.scorer}
    return [
        ScoreArm(
            name,
            scorer.models[0] if scorer.models else None,
            scorer.prompt,
            rung,
            coder,
            digest(
                [
                    _VERSION,
                    "score",
                    dict(scorer.identity),
                    rung,
                    *_decides(task, rung, models),
                    store_id,
                    coder,
                    *(read if scorer.needs_subject else []),
                    *_changed(scorer, task, store_id, coder, subject),
                ]
            ),
            scorer.metric,
            scorer.blind,
            scorer.chance,
            chosen[name],
        )
        for name, scorer in scorers.items()
        for rung in task.examples.scored.rungs
        if scorer.takes(rung)
    ]


def _check_rungs(task: Task, scorers: Mapping[str, Scorer]) -> None:
    for rung in task.examples.scored.rungs:
        if not any(scorer.takes(rung) for scorer in scorers.values()):
            raise TaskError(
                f'{task.source}: examples.scored.rungs: no scorer is asked on "{rung}": add one that is, such as a '
                '[[scorer]] of kind "fuzzing"'
            )
