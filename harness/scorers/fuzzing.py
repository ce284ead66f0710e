"""Fuzzing: in which passages are all marked tokens right? (paper section 5)"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from harness.clients.models import Models
from harness.examples.marks import mark
from harness.questions.kinds import Fuzz
from harness.scorers.base import Scored, Scorer
from harness.scorers.judging import Judge, JudgeSettings
from harness.values import Example, Explanation, Passage, ScoredSet

__all__ = ["Fuzzing"]


class Fuzzing(Scorer):
    """Shows passages with marked tokens, right ones or copied patterns, and asks where all marks are right."""

    class Settings(JudgeSettings):
        """Keys of a `[[scorer]]` of kind `fuzzing`.

        `threshold` is the share of a window's largest activation that a token needs to be marked.
        """

        threshold: Annotated[float, Field(gt=0, le=1)] = 0.3

    def __init__(self, settings: Fuzzing.Settings, models: Models, base: Path) -> None:
        self._judge = Judge("fuzz", settings, models, base)
        self._threshold = settings.threshold
        self.models = (settings.model,)
        self.prompt = self._judge.prompt
        self.wants = self._judge.wants
        # "alike": where wrong marks go, so that scores of other ways are not taken for scores of this one
        marking = {"threshold": settings.threshold, "marks": "alike"}
        self.identity = {"kind": "fuzzing", **marking, **self._judge.identity}

    async def score(self, explanation: Explanation | None, examples: ScoredSet, seed: int) -> Scored:
        """Judge one explanation on one rung's examples."""
        return await self.judge(explanation, examples.examples, self.shown(examples, seed), seed)

    def shown(self, examples: ScoredSet, seed: int) -> Sequence[Passage]:
        """The passages as the judge sees them, with their marks, one an example."""
        return mark(examples, self._threshold, seed)

    async def judge(
        self, explanation: Explanation | None, examples: Sequence[Example], passages: Sequence[Passage], seed: int
    ) -> Scored:
        """Judge one explanation on examples that are shown as `passages`, in their order."""
        return await self._judge.judge(explanation, examples, passages, Fuzz, seed)

    def takes(self, rung: str) -> bool:  # noqa: ARG002 - the same for every rung
        """Whether it is asked on a rung: it shows marks, so on all."""
        return True
