"""What a task's interventions are: their keys, and whether what needs them can have them; pure, nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from harness.errors import CoderError, TaskError
from harness.explainers.base import Explainer
from harness.scorers.base import Scorer
from harness.task import Task
from harness.values import digest

if TYPE_CHECKING:
    from harness.subject.texts import SubjectTexts

__all__ = ["check_interventions", "intervention_digest", "intervention_key"]

# raised when the same settings would give other interventions than before
_VERSION = 1


def check_interventions(
    task: Task, explainers: Mapping[str, Explainer], scorers: Mapping[str, Scorer], subject: SubjectTexts | None
) -> bool:
    """Whether any explainer or scorer needs interventions, which can be had then.

    Raises:
        TaskError: the task has no [interventions], not at that KL, or none to choose by; or prompts do not fit.
        CoderError: a coder has no decoder.
    """
    needing = dict(_needing(explainers, scorers))
    if not needing:
        return False
    for where, one in needing.items():
        here = f"{task.source}: {where}"
        if task.interventions is None:
            raise TaskError(
                f"{here}: this kind changes latents while the subject writes: add the table [interventions]"
            )
        for target in one.targets:
            if target not in task.interventions.targets:
                known = ", ".join(f"{kl:g}" for kl in task.interventions.targets)
                raise TaskError(f"{here}: kl: {target:g} is none of interventions.targets: {known}")
        if getattr(one, "chooses", False) and not task.interventions.select:
            raise TaskError(f"{here}: by: interventions.select is 0, so there is nothing to choose by")
        assert subject is not None
        for coder in task.coder:
            if not subject.steers(coder.name):
                raise CoderError(
                    f'{here}: coder "{coder.name}" has no decoder, and an intervention adds a decoder\'s directions; '
                    "choose another"
                )
    assert task.interventions is not None
    assert subject is not None
    longest, positions = task.interventions.window + 1 + task.interventions.tokens, subject.positions
    if positions is not None and longest > positions:
        raise TaskError(
            f"{task.source}: interventions.window: a prompt of {task.interventions.window} tokens with a BOS and "
            f"{task.interventions.tokens} new ones is more than the {positions} positions that the subject can read"
        )
    return True


def intervention_digest(task: Task, store_id: str, coder: str, subject: SubjectTexts) -> str:
    """What tells the interventions on a coder from any other."""
    assert task.interventions is not None
    settings = task.interventions.model_dump(mode="json")
    split = task.examples.split.model_dump(mode="json")
    return digest(
        [_VERSION, "intervention", settings, split, task.drawing_seed, store_id, coder, subject.identity(coder)]
    )


def intervention_key(arm: str, latent: int) -> str:
    """The key of the interventions on one latent, by their coder's digest."""
    return digest([arm, latent])


def _needing(
    explainers: Mapping[str, Explainer], scorers: Mapping[str, Scorer]
) -> Iterator[tuple[str, Explainer | Scorer]]:
    yield from ((f"explainer.{name}", one) for name, one in explainers.items() if one.targets)
    yield from ((f"scorer.{name}", one) for name, one in scorers.items() if one.targets)
