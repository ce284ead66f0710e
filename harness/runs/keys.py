"""Keys and seeds: what tells one piece of work from any other, and what its random choices follow; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.clients.models import Models
from harness.examples.rungs import HARD
from harness.explainers.base import Explainer
from harness.runs.arms import ExplanationArm, ScoreArm
from harness.runs.interventions import intervention_digest
from harness.scorers.base import Scorer
from harness.task import Rung, Task
from harness.values import Explanation, Latent, digest, seed_of

if TYPE_CHECKING:
    from harness.subject.texts import SubjectTexts

__all__ = [
    "Ground",
    "control_digest",
    "explain_seed",
    "explanation_key",
    "latent_order",
    "score_key",
    "score_seed",
    "shuffled_key",
]

# raised when the same task would give other results than before
_VERSION = 3


@dataclass(frozen=True, slots=True)
class Ground:
    """What the arms on one coder rest on: the task, the store and the subject, None where nobody needs it."""

    task: Task
    store_id: str
    coder: str
    subject: SubjectTexts | None

    def explanation(self, explainer: Explainer) -> str:
        """The digest of an explainer's own arm."""
        asks = explainer.needs_subject or explainer.uses_subject
        return digest(
            [
                _VERSION,
                "explanation",
                dict(explainer.identity),
                self._drawing("shown"),
                self.store_id,
                self.coder,
                # scored windows decide which shown ones are dropped as near copies
                self._drawing("scored"),
                self.task.latents.min_examples,
                *(self._read() if asks else []),
                *self._changed(explainer),
            ]
        )

    def score(self, scorer: Scorer, rung: Rung, models: Models) -> str:
        """The digest of a scorer's arm on a rung."""
        return digest(
            [
                _VERSION,
                "score",
                dict(scorer.identity),
                rung,
                *self._scored(rung, models),
                self.store_id,
                self.coder,
                *(self._read() if scorer.needs_subject else []),
                *self._changed(scorer),
            ]
        )

    def interventions(self) -> str:
        """What tells the interventions on the coder from any other."""
        assert self.subject is not None
        return intervention_digest(self.task, self.store_id, self.coder, self.subject)

    def _read(self) -> list[Any]:
        return [] if self.subject is None else [self.subject.identity(self.coder)]

    def _changed(self, one: Explainer | Scorer) -> list[str]:
        return [self.interventions()] if one.targets and self.subject is not None else []

    def _scored(self, rung: Rung, models: Models) -> list[Any]:
        """What decides the scored examples of a rung; those of hard rungs make way for what is shown."""
        parts: list[Any] = [self._drawing(part) for part in (("scored", "shown") if rung in HARD else ("scored",))]
        embedder = self.task.examples.scored.embedder
        return [*parts, models.identity(embedder)] if rung == "semantic" and embedder else parts

    def _drawing(self, part: str) -> dict[str, Any]:
        """What decides the examples of a part (`shown` or `scored`): no rung changes another rung's examples."""
        examples = self.task.examples.model_dump(mode="json")
        drawn = {key: value for key, value in examples[part].items() if key not in ("rungs", "embedder")}
        made = {"window": examples["window"], "split": examples["split"], part: drawn, "seed": self.task.drawing_seed}
        return made if examples["peak"] is None else made | {"peak": examples["peak"]}


def control_digest(control: str, *parts: str) -> str:
    """The digest of a control's arm, with what it depends on."""
    return digest([_VERSION, control, *parts])


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
