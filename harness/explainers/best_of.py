"""Best of several: candidates from one or more explainers, of which a scorer chooses one on the `select` split."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harness.clients.models import Models
from harness.clients.sampling import MOST_SAMPLES, sampled_within
from harness.examples.draw import LatentExamples
from harness.explainers.base import Explained, Explainer, Refers
from harness.explainers.parts import Composed, Judged, Part, Selecting, made_explainer
from harness.scorers.asking import paid, together
from harness.values import Explanation

__all__ = ["BestOf", "BestOfSettings", "chosen", "digested", "noted"]


class BestOfSettings(BaseModel):
    """Keys of an `[[explainer]]` of kind `best-of`.

    `candidates` are explainers, `samples` so many of each; `scorer` chooses among them. All are tables such as
    `[[explainer]]` and `[[scorer]]` hold, or names of those in the task.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    candidates: Annotated[tuple[Part, ...], Field(min_length=1)]
    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES // 2)] = 1
    scorer: Part


class BestOf(Composed):
    """Takes the candidate that scores highest on the `select` windows, the first one of equals."""

    Settings: ClassVar[type[BaseModel]] = BestOfSettings
    refers: ClassVar[Refers] = {"candidates": "explainer", "scorer": "scorer"}

    def __init__(self, settings: BestOfSettings, models: Models, base: Path) -> None:
        self._selecting = Selecting(settings.scorer, models, base)
        self._candidates: list[tuple[str, Explainer, int]] = []
        made: list[Explainer] = []
        for number, part in enumerate(settings.candidates, 1):
            made.append(made_explainer(part, models, base, f"candidates.{part.name or number}"))
            for sample in range(settings.samples):
                label = part.label if settings.samples == 1 else f"{part.label} {sample + 1}"
                self._candidates.append((label, made[-1], part.sample + sample))
        super().__init__(made, [self._selecting.scorer])
        self.identity = {
            "kind": "best-of",
            "candidates": [part.identity(one) for part, one in zip(settings.candidates, made, strict=True)],
            "samples": settings.samples,
            "scorer": self._selecting.identity,
        }

    async def explain(self, examples: LatentExamples, seed: int) -> Explained:
        """Explain one latent by every candidate and keep the best; it fails where all of them do."""
        jobs = [partial(_candidate, one, sample, examples, seed) for _, one, sample in self._candidates]
        found: list[Explained] = await together(jobs)
        texts = {digested(one.explanation): one.explanation for one in found}
        written = {key: text for key, text in texts.items() if isinstance(text, Explanation)}
        judging = [partial(self._selecting.judge, text, examples, seed) for text in written.values()]
        judged = dict(zip(written, await together(judging), strict=True))
        values = [_value(judged.get(digested(one.explanation))) for one in found]
        best = chosen(found, values)
        scores = [one.scored for one in judged.values() if one is not None]
        notes = {
            "candidates": [
                noted(label, one, value)
                for (label, *_), one, value in zip(self._candidates, found, values, strict=True)
            ],
            "chosen": best,
            "metric": self._selecting.scorer.metric,
        }
        return Explained(found[best].explanation, *paid((*found, *scores)), notes)


def chosen(found: Sequence[Explained], values: Sequence[float | None]) -> int:
    """The place of the highest value, the first of equals; before those without a value, and these before failures."""
    ranks = [
        (isinstance(one.explanation, Explanation), value is not None, value or 0.0)
        for one, value in zip(found, values, strict=True)
    ]
    return max(range(len(ranks)), key=lambda at: (ranks[at], -at))


def noted(label: str, found: Explained, value: float | None) -> dict[str, Any]:
    """A candidate as a JSON-able value."""
    answer = found.explanation
    if isinstance(answer, Explanation):
        said: dict[str, Any] = {"explainer": label, "text": answer.text, "select": value}
    else:
        said = {"explainer": label, "failure": answer.status, "message": answer.message}
    return said | ({"notes": dict(found.notes)} if found.notes else {})


def digested(answer: Any) -> str:
    """What tells an explanation from any other; failures are all alike."""
    return repr(answer.identity()) if isinstance(answer, Explanation) else ""


async def _candidate(explainer: Explainer, sample: int, examples: LatentExamples, seed: int) -> Explained:
    with sampled_within(sample):
        return await explainer.explain(examples, seed)


def _value(judged: Judged | None) -> float | None:
    return None if judged is None else judged.value
