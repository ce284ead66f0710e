"""Arms: what an explainer or scorer with its settings, or a control, is called and asked; values alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.task import POPULATIONS
from harness.values import Explanation

__all__ = [
    "CONSTANT",
    "GENERIC",
    "NO_EXPLANATION",
    "ExplanationArm",
    "ScoreArm",
    "alone",
    "arm_label",
    "constant",
    "fixed",
    "judges",
    "written",
]

# what stands in the place of an explanation where scorers judge none
NO_EXPLANATION = "latent"
# controls whose words are the same for every latent
CONSTANT = ("none", "generic", NO_EXPLANATION)
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
