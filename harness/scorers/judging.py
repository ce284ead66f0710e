"""What detection and fuzzing share: passages asked about in small batches, a 0 or 1 for each (paper section 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from harness import metrics
from harness.clients.ask import Asked, ask, first_request
from harness.clients.ledger import Amount
from harness.clients.metering import at_most
from harness.clients.models import Models
from harness.clients.prices import Price
from harness.clients.wants import Want
from harness.questions.kinds import Judgement, Question
from harness.questions.prompts import load_variant
from harness.scorers.asking import paid, together
from harness.scorers.base import Scored
from harness.scorers.verdicts import Verdicts
from harness.values import Example, Explanation, Failure, FailureStatus, Passage

__all__ = ["Judge", "JudgeSettings", "figures"]

# where a judge gives labels without probabilities
UNCALIBRATED = {"brier": None, "calibration_error": None, "calibration": None}

# bytes of the words that a question is asked again with, and what chat templates put around them
_WORDS = 1024

Asking = Callable[[Explanation | None, tuple[Passage, ...]], Question]


class JudgeSettings(BaseModel):
    """Keys that `detection` and `fuzzing` share.

    `batch` is the number of examples in one prompt, less where the prompt variant holds less. `logprobs` true needs
    probabilities of the labels, so that a model that gives none is refused before the run starts; false asks for none;
    left out, they are asked for where the prompt variant says so and the model gives any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    prompt: str = "default"
    batch: Annotated[int, Field(ge=1)] = 5
    logprobs: bool | None = None


class Judge:
    """Asks a model for labels of passages, batch by batch."""

    def __init__(self, question: str, settings: JudgeSettings, models: Models, base: Path) -> None:
        self._client = models.client(settings.model)
        self._variant = load_variant(question, settings.prompt, base)
        self._batch = min(settings.batch, self._variant.batch or settings.batch)
        self._logprobs = self._variant.logprobs if settings.logprobs is None else settings.logprobs
        self.prompt = self._variant.name
        self.identity: dict[str, Any] = {
            "question": question,
            "model": models.identity(settings.model),
            "prompt": self._variant.digest,
            "batch": self._batch,
        } | ({} if settings.logprobs is None else {"logprobs": settings.logprobs})
        self.wants = _wants(question, settings, asked=self._logprobs)

    async def judge(
        self,
        explanation: Explanation | None,
        examples: Sequence[Example],
        passages: Sequence[Passage],
        asking: Asking,
        seed: int,
    ) -> Scored:
        """Verdicts on examples, shown to the model as `passages`, one each in the same order."""
        batches = self._batches(passages)
        answers = await together([partial(self._ask, asking(explanation, batch), seed) for batch in batches])
        verdicts = _verdicts(examples, batches, answers)
        return Scored(verdicts, figures(verdicts), *paid(answers))

    def most(
        self,
        explanation: Explanation | None,
        passages: Sequence[Passage],
        asking: Asking,
        seed: int,
        price: Price | None,
    ) -> Amount:
        """The most that such verdicts can cost, every question asked twice."""
        total = Amount()
        for batch in self._batches(passages):
            question = asking(explanation, batch)
            request = first_request(self._client, self._variant, question, seed=seed, logprobs=self._logprobs)
            # asked again, a question comes with the reply and what is wrong with it
            longer = len(self._client.wire(request).body) + request.max_tokens + _WORDS
            again = Amount(longer + request.max_tokens, None)
            if price is not None:
                again = price.most(longer, request.max_tokens)
            total += at_most(self._client.wire(request), request, price) + again
        return total

    def _batches(self, passages: Sequence[Passage]) -> list[tuple[Passage, ...]]:
        return [tuple(passages[at : at + self._batch]) for at in range(0, len(passages), self._batch)]

    async def _ask(self, question: Question, seed: int) -> Asked:
        return await ask(self._client, self._variant, question, seed=seed, logprobs=self._logprobs)


def _wants(question: str, settings: JudgeSettings, *, asked: bool) -> tuple[Want, ...]:
    if not asked:
        return ()
    cure = "take a model that gives them, or leave logprobs out of this scorer"
    without = "labels without probabilities, so no AUROC"
    return (Want(question, settings.model, "logprobs", bool(settings.logprobs), cure, without),)


def figures(verdicts: Verdicts) -> dict[str, Any]:
    """The figures of verdicts, from those that are there; what is undefined is None."""
    truth, scores = verdicts.truth.astype(bool), verdicts.scores
    found = metrics.classification(truth, verdicts.labels, scores, verdicts.quantile).as_dict()
    calibrated = metrics.calibration(truth, scores)
    return found | (UNCALIBRATED if calibrated is None else calibrated.as_dict())


def _verdicts(examples: Sequence[Example], batches: list[tuple[Passage, ...]], answers: list[Asked]) -> Verdicts:
    labels: list[int] = []
    probabilities: list[float | None] = []
    failures: list[FailureStatus | None] = []
    for batch, asked in zip(batches, answers, strict=True):
        match asked.answer:
            case Judgement(batch_labels, batch_probabilities):
                labels += batch_labels
                probabilities += batch_probabilities
                failures.extend(None for _ in batch)
            case Failure(status):
                labels += [-1] * len(batch)
                probabilities += [None] * len(batch)
                failures.extend(status for _ in batch)
            case _:
                raise TypeError("a judge was answered with an explanation")
    return Verdicts.of(examples, labels, probabilities, failures)
