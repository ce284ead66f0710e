"""Intervention: does text that is written while a latent is amplified speak for the explanation? (paper section 9)"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from harness.clients.models import Models
from harness.metrics.choice import choice
from harness.scorers.amplified import Mode, Told, speaking
from harness.scorers.base import Scored, Scorer
from harness.scorers.verdicts import Verdicts
from harness.subject.intervened import Intervened, Intervener, at_kl
from harness.values import Example, Explanation, Failure, FailureStatus, Pair, Passage, ScoredSet

__all__ = ["InterventionScorer", "figures"]


class InterventionScorer(Scorer):
    """Looks at the subject's continuations with and without an intervention on the latent, pair by pair.

    Which prompts, how strong and what was written is the same for every explanation of a latent; see
    `harness.subject.intervene` and, for the two modes, `harness.scorers.amplified`.
    """

    needs_subject = True

    class Settings(BaseModel):
        """Keys of a `[[scorer]]` of kind `intervention`.

        `kl`, in nats, is one of `interventions.targets`. `mode` is `logprobs` (equation 1, in nats, by a model that
        tells logprobs of given text) or `judge` (which of the two was amplified: a share of right answers, 0.5 by
        guessing).
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        model: str
        kl: Annotated[float, Field(gt=0)]
        mode: Mode = "logprobs"
        prompt: str = "default"

    def __init__(self, settings: InterventionScorer.Settings, models: Models, base: Path) -> None:
        self._how = speaking(settings.mode, "intervention", settings.model, settings.prompt, models, base)
        self._kl = settings.kl
        self._by_judge = settings.mode == "judge"
        self._source: Intervener | None = None
        self.metric = "accuracy" if self._by_judge else "nats"
        self.models = (settings.model,)
        self.prompt = self._how.prompt
        self.wants = self._how.wants
        self.targets = (settings.kl,)
        self.identity = {"kind": "intervention", "kl": settings.kl, **self._how.identity}

    def bind_interventions(self, source: Intervener) -> None:
        """Take who changes latents."""
        self._source = source

    def takes(self, rung: str) -> bool:
        """Once a latent: on the rung of the headline figure where there is a subject."""
        return rung == "random"

    async def score(self, explanation: Explanation | None, examples: ScoredSet, seed: int) -> Scored:
        """What each pair of continuations says of one explanation."""
        assert self._source is not None
        assert examples.latent is not None
        found = await self._source.intervened(examples.latent)
        if isinstance(found, Failure):
            # what is missing is what would be scored: one verdict stands for all
            return Scored(Verdicts.of([_example(Pair("", "", ""))], failures=[found.status]), {})
        one = at_kl(found, self._kl)
        told = await self._how.tell(explanation, one.score, seed)
        verdicts = _verdicts(one.score, told)
        return Scored(verdicts, figures(one, told), told.replies, told.usage)


def figures(found: Intervened, told: Told) -> dict[str, Any]:
    """What pairs that were answered say together, with how strong the intervention was.

    By logprobs `nats` is their mean and `nats_se` its standard error (None below two pairs); by a judge there are the
    figures of `harness.metrics.choice`. `target` and `kl`, what was reached, are in nats, `kl` None where it is no
    number; `status` says how the strength was found, see `harness.subject.calibrate_search`.
    """
    calibration = found.calibration
    strength = {
        "target": calibration.target,
        "kl": calibration.kl if math.isfinite(calibration.kl) else None,
        "strength": calibration.strength,
        "status": calibration.status,
    }
    answered = [at for at, value in enumerate(told.values) if not isinstance(value, Failure)]
    if told.second:
        right = np.array([(told.chosen[at] == 2) == told.second[at] for at in answered], bool)
        return choice(right, 2) | strength
    values = np.array([value for value in told.values if not isinstance(value, Failure)], np.float64)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return {"nats": float(values.mean()) if len(values) else None, "nats_se": error, "pairs": len(values), **strength}


def _verdicts(pairs: tuple[Pair, ...], told: Told) -> Verdicts:
    """One a pair, in their order: by logprobs its nats; by a judge whether the second passage was said to be amplified.

    They are of no window, so that nobody takes them for verdicts on one: a pair's place is told with the interventions.
    """
    failures: list[FailureStatus | None] = [
        value.status if isinstance(value, Failure) else None for value in told.values
    ]
    numbers = [math.nan if isinstance(value, Failure) else value for value in told.values]
    examples = [_example(pair) for pair in pairs]
    if not told.second:
        return Verdicts.of(examples, failures=failures, values=numbers)
    labels = [number - 1 for number in told.chosen]
    chances = [value if last else 1 - value for value, last in zip(numbers, told.second, strict=True)]
    given = [None if failure else chance for failure, chance in zip(failures, chances, strict=True)]
    verdicts = Verdicts.of(examples, labels, given, failures)
    verdicts.truth[:] = told.second
    return verdicts


def _example(pair: Pair) -> Example:
    return Example(Passage((pair.prompt,)), np.zeros(1, np.float32), pair.quantile or None)
