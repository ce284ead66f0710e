"""An agent's experiments: texts that the subject reads, changes of the latent, and tests on the select examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.clients.ledger import Amount
from harness.clients.models import Models
from harness.explainers.agent.ration import Ration
from harness.explainers.agent.showing import numbered, shown_effect, shown_window
from harness.questions.kinds import Detect
from harness.questions.render import escape
from harness.scorers.judging import Judge, JudgeSettings
from harness.scorers.verdicts import Verdicts
from harness.subject.effect import Change, Effect
from harness.values import Example, Explanation, Failure, Latent, ReadText, Usage

__all__ = ["AskedSubject", "Examiner", "ToolError", "Trials", "Unfinished"]

# wrongly judged passages that are told of, of each kind
_TOLD = 3


class ToolError(Exception):
    """A call cannot be done; the message tells the model why."""


class Unfinished(Exception):
    """A test failed for a passing reason: the latent is to be tried again later."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class AskedSubject(Protocol):
    """A subject that reads texts, and goes on with them while a latent is changed; `SubjectTexts` is one."""

    def steers(self, coder: str) -> bool:
        """Whether a coder's latents can be changed."""
        ...

    async def read(self, latent: Latent, texts: Sequence[str]) -> Sequence[ReadText]:
        """Each text with the latent's activations."""
        ...

    async def effects(
        self, latent: Latent, prompts: Sequence[str], change: Change, *, nats: float, tokens: int, seed: int
    ) -> Sequence[Effect]:
        """What a change did after each prompt."""
        ...


class Examiner:
    """Judges explanations by detection on examples that are not scored, asking `model`."""

    def __init__(self, model: str, prompt: str, models: Models, base: Path) -> None:
        self._judge = Judge("detect", JudgeSettings(model=model, prompt=prompt), models, base)
        self._free = models.client(model).capabilities.model_free
        self._price = models.price(model)
        self.identity = self._judge.identity

    async def test(
        self, explanation: str, examples: Sequence[Example], seed: int, ration: Ration, reserve: Amount
    ) -> tuple[Verdicts, tuple[str, ...], Usage]:
        """Verdicts on the examples, the keys of the replies and what they took, which is counted.

        Raises:
            ToolError: it might leave less than the `reserve`.
            Unfinished: not all passages were judged, for a passing reason.
        """
        passages, told = [example.passage for example in examples], Explanation(explanation)
        most = self._judge.most(told, passages, Detect, seed, self._price)
        if not self._free and not ration.fits(most + reserve):
            raise ToolError("there is not enough left of the budget for a test")
        scored = await self._judge.judge(told, examples, passages, Detect, seed)
        if not self._free:
            ration.spend(scored.usage, most)
        missing = scored.verdicts.failures()
        if missing["provider_error"]:
            raise Unfinished(Failure("provider_error", f"a test was not answered ({missing.total()} passages)"))
        return scored.verdicts, scored.replies, scored.usage


@dataclass(slots=True)
class Trials:
    """The experiments on one latent; `left` is how many tests there still are.

    `replies` and `usage` are of the tests made, `best` is the description that did best with its accuracy; `reserve` is
    what a test has to leave of the budget.
    """

    latent: Latent
    maximum: float
    subject: AskedSubject | None
    examiner: Examiner | None
    select: Sequence[Example]
    ration: Ration
    left: int
    seed: int
    replies: tuple[str, ...] = ()
    usage: Usage = Usage()
    best: tuple[float, str] | None = None
    reserve: Amount = field(default_factory=Amount)

    @property
    def passages(self) -> int:
        """How many passages a test is made on."""
        return len(self.select)

    async def read(self, texts: Sequence[str]) -> str:
        """Where the latent is active in texts."""
        assert self.subject is not None
        found = await self.subject.read(self.latent, texts)
        return numbered(shown_window(one.pieces, one.activations, self.maximum) for one in found)

    async def change(self, prompts: Sequence[str], how: Change, nats: float) -> str:
        """What a change of the latent does after prompts."""
        assert self.subject is not None
        found = await self.subject.effects(self.latent, prompts, how, nats=nats, tokens=12, seed=self.seed)
        return numbered(shown_effect(one) for one in found)

    async def test(self, explanation: str) -> str:
        """How well a judge does with an explanation on the select examples, and where it is wrong.

        Raises:
            ToolError: no test is left, or not enough of the budget.
            Unfinished: not all passages were judged, for a passing reason.
        """
        assert self.examiner is not None
        if self.left < 1:
            raise ToolError("there are no tests left")
        verdicts, replies, usage = await self.examiner.test(
            explanation, self.select, self.seed, self.ration, self.reserve
        )
        self.left -= 1
        self.replies += replies
        self.usage += usage
        return self._result(explanation, verdicts)

    def _result(self, explanation: str, verdicts: Verdicts) -> str:
        right = verdicts.label == verdicts.truth
        lines: list[str] = []
        shares: list[float] = []
        for truth, kind in ((1, "in which the feature responds"), (0, "in which it is silent")):
            mine = verdicts.answered & (verdicts.truth == truth)
            shares.append(float(right[mine].mean()) if mine.any() else 0.0)
            lines.append(f"Of {int(mine.sum())} passages {kind}, {int(right[mine].sum())} were judged rightly.")
        accuracy = sum(shares) / 2
        if self.best is None or accuracy >= self.best[0]:
            self.best = accuracy, explanation
        lines.append(f"Balanced accuracy {accuracy:.2f}; guessing gives 0.50.")
        if lost := int((~verdicts.answered).sum()):
            lines.append(f"Of {lost} passages the answer could not be read.")
        for truth, kind in ((1, "It responds here, and the reader thought not:"), (0, "The reader thought here:")):
            wrong = (verdicts.answered & ~right & (verdicts.truth == truth)).nonzero()[0][:_TOLD].tolist()
            if wrong:
                lines += [kind, numbered(self._window(self.select[at]) for at in wrong)]
        return "\n".join(lines)

    def _window(self, example: Example) -> str:
        if example.activating:
            return shown_window(example.passage.tokens, example.activations, self.maximum)
        return escape(example.passage.text)
