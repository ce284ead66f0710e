"""Surprisal: is a window likelier after the explanation than after words that tell nothing? (paper section 7)"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.clients.models import Models
from harness.metrics.ranking import ranking
from harness.questions.kinds import Surprisal
from harness.questions.messages import Message
from harness.questions.prompts import load_variant
from harness.scorers.asking import paid, together
from harness.scorers.base import Scored, Scorer
from harness.scorers.likelihood import Likelihood, difference, followed, likelihood, wanted
from harness.scorers.verdicts import Verdicts
from harness.values import Explanation, Failure, FailureStatus, ScoredSet

__all__ = ["SurprisalScorer"]

# stands between the question and the window, as it stands between a few-shot block's question and its sentences
_LEAD = "\n\n"


class SurprisalScorer(Scorer):
    """Asks a base model for the logprobs of plain windows, and ranks them by what the explanation adds to these.

    The information value of a window x is log p(x | explanation) - log p(x | z0) in nats, where z0 is what the prompt
    variant says in place of an explanation that is withheld. Each p is that of the window's tokens after few-shot
    blocks and the explanation; a token that begins before the window and ends in it is one of them.

    With the explanation withheld every value is 0, and nothing is asked.
    """

    metric = "auroc"

    class Settings(BaseModel):
        """Keys of a `[[scorer]]` of kind `surprisal`.

        `total` says how a window's logprobs are put together: their `sum`, or their `mean` over its tokens.
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        model: str
        prompt: str = "default"
        total: Literal["sum", "mean"] = "sum"

    def __init__(self, settings: SurprisalScorer.Settings, models: Models, base: Path) -> None:
        self._client = models.client(settings.model)
        self._variant = load_variant("surprisal", settings.prompt, base)
        self._total = settings.total
        self.models = (settings.model,)
        self.prompt = self._variant.name
        self.wants = (wanted("surprisal", settings.model),)
        self.identity = {
            "kind": "surprisal",
            "question": "surprisal",
            "model": models.identity(settings.model),
            "prompt": self._variant.digest,
            "total": settings.total,
        }

    async def score(
        self,
        explanation: Explanation | None,
        examples: ScoredSet,
        seed: int,  # noqa: ARG002 - nothing is drawn
    ) -> Scored:
        """The information value of every window of one rung's examples."""
        texts = [example.passage.text for example in examples.examples]
        # not asked twice for the same: what is withheld is what all are compared with
        asked = [] if explanation is None else [explanation, None]
        prefixes = [self._prefix(each) for each in asked]
        told = await together(
            [partial(likelihood, self._client, prefix, text) for prefix in prefixes for text in texts]
        )
        if explanation is None:
            values: list[float | Failure] = [0.0] * len(texts)
        else:
            pairs = zip(told[: len(texts)], told[len(texts) :], strict=True)
            values = [self._value(after, before) for after, before in pairs]
        failures: list[FailureStatus | None] = [each.status if isinstance(each, Failure) else None for each in values]
        numbers = [math.nan if isinstance(each, Failure) else each for each in values]
        verdicts = Verdicts.of(examples.examples, failures=failures, values=numbers)
        figures = ranking(verdicts.truth, verdicts.value, verdicts.quantile)
        return Scored(verdicts, figures, *paid(told))

    def _prefix(self, explanation: Explanation | None) -> tuple[Message, ...]:
        """What stands before every window."""
        return followed(self._variant.render(Surprisal(explanation)).messages, _LEAD)

    def _value(self, after: Likelihood, before: Likelihood) -> float | Failure:
        """The information value in nats, or why there is none."""
        value = difference(after, before)
        if isinstance(value, Failure) or self._total == "sum":
            return value
        assert not isinstance(after.tokens, Failure)
        return value / len(after.tokens) if after.tokens else value
