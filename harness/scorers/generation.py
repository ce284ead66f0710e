"""Generation: the latent answers for itself, in texts written to activate it and in texts written not to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from harness.clients.ask import Asked, ask
from harness.clients.models import Models
from harness.metrics import classification
from harness.metrics.ranking import ranking
from harness.questions.kinds import Generate, Texts
from harness.questions.prompts import load_variant
from harness.scorers.asking import paid, together
from harness.scorers.base import Scored, Scorer, TextReader
from harness.scorers.verdicts import Verdicts
from harness.values import (
    Example,
    Explanation,
    Failure,
    FailureStatus,
    Latent,
    Passage,
    ScoredSet,
    seed_of,
)

__all__ = ["Generation"]

# where texts come from that should not activate the latent
_WRITTEN = "written"


class Generation(Scorer):
    """Has texts written by the explanation and looks where the latent is active in them.

    No passage is judged: the latent answers for itself. That it fires in such texts tells that what the explanation
    says is enough to activate it, not that nothing else does.
    """

    needs_subject = True

    class Settings(BaseModel):
        """Keys of a `[[scorer]]` of kind `generation`.

        `texts` is how many are written that should activate the latent, and as many that should not; `batch` is how
        many of them one request asks for.
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        model: str
        prompt: str = "default"
        texts: Annotated[int, Field(ge=1, le=1000)] = 10
        batch: Annotated[int, Field(ge=1, le=100)] = 10

    def __init__(self, settings: Generation.Settings, models: Models, base: Path) -> None:
        self._client = models.client(settings.model)
        self._variant = load_variant("generate", settings.prompt, base)
        self._texts, self._batch = settings.texts, settings.batch
        self._subject: TextReader | None = None
        self.models = (settings.model,)
        self.prompt = self._variant.name
        self.identity = {
            "kind": "generation",
            "question": "generate",
            "model": models.identity(settings.model),
            "prompt": self._variant.digest,
            "texts": settings.texts,
            "batch": settings.batch,
        }

    def bind(self, subject: TextReader) -> None:
        """Take who reads the texts."""
        self._subject = subject

    def takes(self, rung: str) -> bool:
        """Whether it is asked on a rung: it looks at no windows, so once, on that of the headline figures."""
        return rung == "random"

    async def score(self, explanation: Explanation | None, examples: ScoredSet, seed: int) -> Scored:
        """Have texts written of one explanation, and read them; of the examples only the latent counts."""
        assert examples.latent is not None
        assert self._subject is not None
        sizes = [min(self._batch, self._texts - done) for done in range(0, self._texts, self._batch)]
        asked = [(side, sample, size) for side in (True, False) for sample, size in enumerate(sizes)]
        answers = await together([partial(self._ask, explanation, *one, seed) for one in asked])
        written = list(
            chain.from_iterable(
                _written(answer, side, size) for answer, (side, _, size) in zip(answers, asked, strict=True)
            )
        )
        read = await _read(self._subject, examples.latent, written)
        peaks = np.array([each.activations.max(initial=0.0) for each in read], np.float32)
        failures: list[FailureStatus | None] = [text.failure for text in written]
        answered = np.array([failure is None for failure in failures], bool)
        labels = np.where(answered, peaks > 0, -1).tolist()
        verdicts = Verdicts.of(read, labels, failures=failures, values=np.where(answered, peaks, np.nan))
        figures = _figures(verdicts, examples.maximum)
        figures["distinct"] = len({text.text for text in written if text.failure is None})
        return Scored(verdicts, figures, *paid(answers), tuple(read))

    async def _ask(
        self,
        explanation: Explanation | None,
        activating: bool,  # noqa: FBT001 - an argument among others
        sample: int,
        size: int,
        seed: int,
    ) -> Asked:
        question = Generate(explanation, size, activating)
        own = seed_of(seed, "generate", int(activating), sample)
        return await ask(self._client, self._variant, question, sample=sample, seed=own)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text, on which side it was meant to be, and why it is missing if it is."""

    text: str
    activating: bool
    failure: FailureStatus | None = None


def _written(asked: Asked, activating: bool, size: int) -> Iterator[_Text]:  # noqa: FBT001 - as in a question
    match asked.answer:
        case Texts(texts):
            yield from (_Text(text, activating) for text in texts)
        case Failure(status):
            yield from (_Text("", activating, status) for _ in range(size))
        case _:
            raise TypeError("texts were asked for, and something else was answered")


async def _read(subject: TextReader, latent: Latent, written: Sequence[_Text]) -> list[Example]:
    """The texts with the latent's activations; missing ones are empty."""
    there = [text.text for text in written if text.failure is None]
    found = iter(await subject.read(latent, there) if there else ())
    nothing = np.zeros(0, np.float32)
    read: list[Example] = []
    for text in written:
        rung = None if text.activating else _WRITTEN
        if text.failure is not None:
            read.append(Example(Passage(()), nothing, None, rung))
            continue
        own = next(found)
        read.append(Example(Passage(own.pieces), own.activations, None, rung))
    return read


def _figures(verdicts: Verdicts, maximum: float) -> dict[str, Any]:
    """The figures of labels and of the largest activations, what is undefined None.

    `hit_rate` and `false_alarm_rate` are the shares of texts of either side in which the latent fired,
    `relative_maximum` the mean, over those that should activate it, of the text's largest activation as a share of the
    largest in the store.
    """
    truth = verdicts.truth.astype(bool)
    found = classification(truth, verdicts.labels, None, verdicts.quantile).as_dict()
    order = ranking(truth, verdicts.value, verdicts.quantile)
    found |= {name: order[name] for name in ("auroc", "average_precision")}
    silent = verdicts.label[verdicts.answered & ~truth]
    peaks = verdicts.value[verdicts.answered & truth].astype(np.float64)
    return found | {
        "hit_rate": found["recall"],
        "false_alarm_rate": float(silent.mean()) if len(silent) else None,
        "relative_maximum": float(peaks.mean() / maximum) if len(peaks) and maximum > 0 else None,
    }
