"""Strengths for the tokens of a passage: written as text, and read out of text or logprobs (paper section 6)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate

from harness.questions.kinds import Answer, Question, Simulate, Simulation
from harness.questions.labels import without_thinking
from harness.questions.render import lay_out
from harness.values import Failure, TokenLogprob

__all__ = ["LEAD", "UNKNOWN", "StrengthLines", "StrengthList", "digit_masses", "expectation", "lines", "masses_at"]

UNKNOWN = "unknown"
# what parts the lines from what stands before them: what parts messages in plain text, so that shots look the same
LEAD = "\n\n"

_LIST = re.compile(r"\[[\s\d.,]*\]")
_NUMBER = re.compile(r"\s*(?:10|[0-9])\s*", re.ASCII)


def lines(tokens: Sequence[str], values: Sequence[object]) -> tuple[str, tuple[int, ...]]:
    r"""A line for each token, escaped, with a tab and its value, and at which character each value begins.

    Fewer values than tokens end the text at the tab of the first token without one. Escaped tokens hold no tab and no
    line break of their own.
    """
    laid = lay_out(tokens)
    parts: list[str] = []
    starts: list[int] = []
    at = 0
    for place, (start, stop) in enumerate(laid.bounds[: len(values) + 1]):
        head = ("\n" if place else "") + laid.text[start:stop] + "\t"
        value = str(values[place]) if place < len(values) else ""
        parts += [head, value]
        starts.append(at + len(head))
        at += len(head) + len(value)
    return "".join(parts), tuple(starts)


def digit_masses(alternatives: Sequence[tuple[str, float]], largest: int) -> dict[int, float]:
    """The probability of each strength from 0 to `largest` among a token's alternatives, `(token, logprob)`.

    Alternatives that are the same number but for blanks are added up.
    """
    masses: dict[int, float] = {}
    for token, logprob in alternatives:
        if _NUMBER.fullmatch(token) and (value := int(token)) <= largest:
            masses[value] = masses.get(value, 0.0) + math.exp(min(logprob, 0.0))
    return masses


def expectation(masses: Mapping[int, float]) -> float:
    """The expected strength where masses are renormalised; NaN where there is none."""
    total = sum(masses.values())
    return sum(value * mass for value, mass in masses.items()) / total if total > 0 else math.nan


def masses_at(
    text: str, starts: Sequence[int], logprobs: Sequence[TokenLogprob], largest: int
) -> list[dict[int, float]] | None:
    """The masses of strengths where values begin in a given text, from the logprobs of its tokens.

    Places are counted in bytes from the text's end: a character may be parted between tokens, and the first token may
    begin before the text. Where no token begins at a value's start there is no mass; None where the tokens do not
    spell the text.
    """
    pieces = [item.token.encode("utf-8", "surrogateescape") for item in logprobs]
    spelled, wanted = b"".join(pieces), text.encode()
    if not spelled.endswith(wanted.lstrip()):
        return None
    before = len(spelled) - len(wanted)
    begins = {at - before: index for index, at in enumerate(accumulate(map(len, pieces), initial=0))}
    found: list[dict[int, float]] = []
    for start in starts:
        index = begins.get(len(text[:start].encode()))
        found.append({} if index is None or index == len(pieces) else digit_masses(logprobs[index].top, largest))
    return found


class StrengthList:
    """A JSON list with a strength for each token."""

    def parse(
        self,
        question: Question,
        text: str,
        logprobs: Sequence[TokenLogprob] | None,  # noqa: ARG002 - a list's numbers are taken as they stand
        *,
        rules: bool = False,  # noqa: ARG002 - strengths have no rule
    ) -> Simulation | Failure:
        """The last list of as many strengths as there are tokens."""
        asked = _simulate(question)
        count = len(asked.passage.tokens)
        said = "no list of strengths"
        for match in reversed(list(_LIST.finditer(without_thinking(text)))):
            try:
                values = json.loads(match[0])
            except ValueError:
                continue
            if len(values) == count and all(value <= asked.largest for value in values):
                return Simulation(tuple(float(value) for value in values))
            said = f"a list of {len(values)} strengths up to {max(values, default=0)}"
        return Failure("unparsable", f"the reply has {said} where {count} from 0 to {asked.largest} are needed")

    def format(self, answer: Answer, question: Question) -> str:
        """The strengths as a JSON list, whole ones without a point."""
        return json.dumps([int(value) if value == int(value) else value for value in _checked(answer, question)])

    def reminder(self, question: Question) -> str:
        """One sentence that asks for this format again."""
        asked = _simulate(question)
        count = len(asked.passage.tokens)
        return f"Reply with a JSON list of exactly {count} whole numbers from 0 to {asked.largest}, and nothing else."


class StrengthLines:
    """A line for each token with a tab and its strength; questions are asked by logprobs and hold no reply to read."""

    def parse(
        self,
        question: Question,
        text: str,
        logprobs: Sequence[TokenLogprob] | None,  # noqa: ARG002 - see the class
        *,
        rules: bool = False,  # noqa: ARG002 - strengths have no rule
    ) -> Simulation | Failure:
        """Strengths from lines that repeat the tokens."""
        asked = _simulate(question)
        tokens = asked.passage.tokens
        found = [line.rpartition("\t") for line in text.strip("\n").split("\n")]
        laid = lay_out(tokens)
        heads = [laid.text[start:stop] for start, stop in laid.bounds]
        numbers = [_NUMBER.fullmatch(value) and int(value) <= asked.largest for _, _, value in found]
        if [head for head, _, _ in found] != heads or not all(numbers):
            return Failure("unparsable", f"the reply is not {len(tokens)} lines of a token, a tab and a strength")
        return Simulation(tuple(float(value) for _, _, value in found))

    def format(self, answer: Answer, question: Question) -> str:
        """A line for each token."""
        values = [round(value) for value in _checked(answer, question)]
        return lines(_simulate(question).passage.tokens, values)[0]

    def reminder(self, question: Question) -> str:
        """One sentence that asks for this format again."""
        return f"Repeat each token on a line with a tab and a whole number from 0 to {_simulate(question).largest}."


def _simulate(question: Question) -> Simulate:
    if not isinstance(question, Simulate):
        raise ValueError(f"a question {question.name} has no strengths")
    return question


def _checked(answer: Answer, question: Question) -> Sequence[float]:
    asked = _simulate(question)
    count = len(asked.passage.tokens)
    if not isinstance(answer, Simulation) or len(answer.strengths) != count:
        raise ValueError(f"{count} strengths are needed, not {answer!r}")
    return answer.strengths
