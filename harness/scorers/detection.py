"""Detection: in which passages is the latent active? (paper section 5)"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.clients.models import Models
from harness.questions.kinds import Detect
from harness.scorers.base import Scored, Scorer
from harness.scorers.judging import Judge, JudgeSettings
from harness.values import Example, Explanation, Passage, ScoredSet

__all__ = ["Detection"]


class Detection(Scorer):
    """Shows plain passages and asks which of them activate the latent."""

    Settings = JudgeSettings

    def __init__(self, settings: JudgeSettings, models: Models, base: Path) -> None:
        self._judge = Judge("detect", settings, models, base)
        self.models = (settings.model,)
        self.prompt = self._judge.prompt
        self.wants = self._judge.wants
        self.identity = {"kind": "detection", **self._judge.identity}

    async def score(self, explanation: Explanation | None, examples: ScoredSet, seed: int) -> Scored:
        """Judge one explanation on one rung's examples."""
        return await self.judge(explanation, examples.examples, self.shown(examples, seed), seed)

    def shown(self, examples: ScoredSet, seed: int) -> Sequence[Passage]:  # noqa: ARG002 - nothing is drawn
        """The passages as the judge sees them, one an example."""
        return [example.passage for example in examples.examples]

    async def judge(
        self, explanation: Explanation | None, examples: Sequence[Example], passages: Sequence[Passage], seed: int
    ) -> Scored:
        """Judge one explanation on examples that are shown as `passages`, in their order."""
        return await self._judge.judge(explanation, examples, passages, Detect, seed)
