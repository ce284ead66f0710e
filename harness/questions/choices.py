"""The number of a passage as a reply, with the probability of each number where logprobs tell it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from harness.questions.kinds import Answer, Choice, Intruder, Question, Steered
from harness.questions.labels import without_thinking
from harness.values import Failure, TokenLogprob

__all__ = ["NumberChoice"]

_NUMBER = re.compile(r"(?<![\w.])(\d+)(?!\w|\.\d)", re.ASCII)


class NumberChoice:
    """A passage's number."""

    def parse(
        self,
        question: Question,
        text: str,
        logprobs: Sequence[TokenLogprob] | None,
        *,
        rules: bool = False,  # noqa: ARG002 - a choice has no rule
    ) -> Choice | Failure:
        """The only number in the reply that is a passage's."""
        count = _count(question)
        said = {int(match[1]) for match in _NUMBER.finditer(without_thinking(text))}
        if len(said) != 1 or not 1 <= (number := said.pop()) <= count:
            return Failure("unparsable", f"the reply does not name one passage by a number from 1 to {count}")
        return Choice(number, _probabilities(number, count, logprobs))

    def format(self, answer: Answer, question: Question) -> str:
        """The number."""
        if not isinstance(answer, Choice) or not 1 <= answer.number <= _count(question):
            raise ValueError(f"a number from 1 to {_count(question)} is needed, not {answer!r}")
        return str(answer.number)

    def reminder(self, question: Question) -> str:
        """One sentence that asks for this format again."""
        return f"Reply with one number from 1 to {_count(question)} and nothing else."


def _count(question: Question) -> int:
    if not isinstance(question, Intruder | Steered):
        raise ValueError(f"a question {question.name} has no number for an answer")
    return len(question.passages)


def _probabilities(number: int, count: int, logprobs: Sequence[TokenLogprob] | None) -> tuple[float, ...] | None:
    """The share of each number among the alternatives at the only token that is the number said; None without one."""
    places = [item for item in logprobs or () if item.token.strip() == str(number)]
    if len(places) != 1:
        return None
    masses = [0.0] * count
    alternatives = list(places[0].top)
    if all(token != places[0].token for token, _ in alternatives):
        alternatives.append((places[0].token, places[0].logprob))
    for token, logprob in alternatives:
        token = token.strip()
        if token.isascii() and token.isdigit() and 1 <= int(token) <= count:
            masses[int(token) - 1] += math.exp(min(logprob, 0.0))
    total = sum(masses)
    return tuple(mass / total for mass in masses) if total > 0 else None
