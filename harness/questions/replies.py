"""Reply formats: each turns a model's text into a typed answer or failure, and writes an answer as such a text.

`explanation`: free text that ends in a line `[explanation]: ...`; `labels`: a JSON list of 0s and 1s; `label-object`: a
JSON object with a 0 or 1 for the number of each passage; `label`: the 0 or 1 of the only passage; `strengths`: a
JSON list with a strength for each token; `strength-lines`: a line for each token, the token, a tab and its strength;
`number`: the number of a passage; `texts`: numbered lines, a text each; `sentences`: sentences, one a line; `quoted`:
words in double quotes.

A client without a language model may add a line `[rule]: {...}` after its explanation, the explanation's
machine-readable form. It is read only where the caller says so (`rules=True`): from a language model such a line is
no part of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from harness.questions.choices import NumberChoice
from harness.questions.kinds import Answer, Choice, Detect, Fuzz, Judgement, Question, Simulation, Texts
from harness.questions.labels import find_labels, longest_list, without_thinking
from harness.questions.probabilities import probabilities
from harness.questions.quoting import QuotedWords
from harness.questions.refusals import unanswered
from harness.questions.render import one_line
from harness.questions.sentences import SentenceLines
from harness.questions.simulating import StrengthLines, StrengthList
from harness.questions.writing import TextList
from harness.values import Explanation, Failure, TokenLogprob

__all__ = ["FORMATS", "ExplanationLine", "LabelList", "LabelObject", "OneLabel", "ReplyFormat", "as_text"]

_MARKER = r"(?:explanation|interpretation)"
_LINE = r"^[ \t>#-]*(?P<open>[*_]{{0,3}}){marker}(?P<mid>[*_]{{0,3}})[ \t]*:(?P<late>[*_]{{0,3}})(?P<rest>[^\n]*)$"
_BRACKETED = re.compile(_LINE.format(marker=rf"\[{_MARKER}\]"), re.IGNORECASE | re.MULTILINE)
_INLINE = re.compile(rf"(?P<open>)\[{_MARKER}\](?P<mid>)[*_]{{0,3}}:(?P<late>)(?P<rest>[^\n]*)$", re.I | re.M)
_BARE = re.compile(_LINE.format(marker=rf"(?:final )?{_MARKER}"), re.IGNORECASE | re.MULTILINE)
_RULE = re.compile(r"^\[rule\]:[ \t]*(?P<json>[^\n]*)$", re.MULTILINE)
_END = re.compile(r"^\s*(?:```|~~~|\[rule\]:|$)")
_NOTHING = re.compile(r"[\s.…*_]*")


class ReplyFormat(Protocol):
    """How an answer is written as text; `parse` inverts `format` and never raises on any text."""

    def parse(
        self, question: Question, text: str, logprobs: Sequence[TokenLogprob] | None, *, rules: bool = False
    ) -> Answer | Failure:
        """The answer that a text gives, or a failure `unparsable` or `refused`."""
        ...

    def format(self, answer: Answer, question: Question) -> str:
        """The answer as text.

        Raises:
            ValueError: the answer does not belong to the question.
        """
        ...

    def reminder(self, question: Question) -> str:
        """One sentence that asks for this format again."""
        ...


class ExplanationLine:
    """Free text whose last line is `[explanation]: ...`."""

    def parse(
        self,
        question: Question,  # noqa: ARG002 - every question has the same form of answer
        text: str,
        logprobs: Sequence[TokenLogprob] | None,  # noqa: ARG002 - words have no probability of their own
        *,
        rules: bool = False,
    ) -> Explanation | Failure:
        """The paragraph after the last marker; `[interpretation]:`, `Explanation:`, bold and any case are taken."""
        text = without_thinking(text)
        marker = _last(_BRACKETED, text) or _last(_INLINE, text) or _last(_BARE, text)
        if marker is None:
            return unanswered(text, "the reply has no line that begins with [explanation]:")
        words = one_line(_paragraph(_after_marker(marker), text[marker.end() :]))
        if _NOTHING.fullmatch(words):
            return Failure("unparsable", "there are no words after [explanation]:")
        return Explanation(words, _rule(text[marker.end() :]) if rules else None)

    def format(self, answer: Answer, question: Question) -> str:  # noqa: ARG002 - see parse
        """The explanation's line, and its rule's where it has one."""
        if not isinstance(answer, Explanation):
            raise ValueError(f"an explanation is needed, not {answer!r}")
        line = f"[explanation]: {one_line(answer.text)}"
        return line if answer.rule is None else f"{line}\n[rule]: {json.dumps(dict(answer.rule))}"

    def reminder(self, question: Question) -> str:  # noqa: ARG002 - see parse
        """One sentence that asks for this format again."""
        return "Reply with one line that begins with [explanation]: and goes on with the description, nothing else."


class LabelList:
    """A JSON list with a 0 or 1 for each passage."""

    def parse(
        self,
        question: Question,
        text: str,
        logprobs: Sequence[TokenLogprob] | None,
        *,
        rules: bool = False,  # noqa: ARG002 - labels have no rule
    ) -> Judgement | Failure:
        """The labels, with P(1) where the logprobs tell it; see `harness.questions.labels` for the forms taken."""
        count = _count(question)
        labels = find_labels(text, count)
        if labels is None:
            held = longest_list(text)
            return unanswered(text, f"the reply has {held or 'no'} label{'s' * (held != 1)} where {count} are needed")
        return Judgement(tuple(label.value for label in labels), probabilities(text, labels, logprobs))

    def format(self, answer: Answer, question: Question) -> str:
        """The labels as a JSON list."""
        if not isinstance(answer, Judgement) or len(answer.labels) != _count(question):
            raise ValueError(f"{_count(question)} labels are needed, not {answer!r}")
        return json.dumps(list(answer.labels))

    def reminder(self, question: Question) -> str:
        """One sentence that asks for this format again."""
        count = _count(question)
        entries = "exactly one entry" if count == 1 else f"exactly {count} entries"
        return f"Reply with a JSON list of {entries}, each 0 or 1, and nothing else."


class LabelObject(LabelList):
    """A JSON object with a 0 or 1 for the number of each passage; whatever `LabelList` takes is taken, too."""

    def format(self, answer: Answer, question: Question) -> str:
        """The labels as a JSON object."""
        labels = json.loads(super().format(answer, question))
        return json.dumps({str(number): label for number, label in enumerate(labels, 1)})

    def reminder(self, question: Question) -> str:
        """One sentence that asks for this format again."""
        count = _count(question)
        keys = '"1"' if count == 1 else f'"1" to "{count}"'
        return (
            f"Reply with a JSON object that has the key{'s' * (count > 1)} {keys}, each with 0 or 1, and nothing else."
        )


class OneLabel(LabelList):
    """A 0 or 1 for the only passage; whatever `LabelList` takes is taken, too."""

    def format(self, answer: Answer, question: Question) -> str:
        """The label."""
        labels = json.loads(super().format(answer, question))
        if len(labels) != 1:
            raise ValueError(f"a label is of one passage, and here are {len(labels)}")
        return str(labels[0])

    def reminder(self, question: Question) -> str:  # noqa: ARG002 - there is one passage
        """One sentence that asks for this format again."""
        return "Reply with 0 or 1 and nothing else."


FORMATS: Mapping[str, ReplyFormat] = {
    "explanation": ExplanationLine(),
    "labels": LabelList(),
    "label-object": LabelObject(),
    "label": OneLabel(),
    "strengths": StrengthList(),
    "strength-lines": StrengthLines(),
    "number": NumberChoice(),
    "texts": TextList(),
    "sentences": SentenceLines(),
    "quoted": QuotedWords(),
}
_PLAINEST = {
    Explanation: "explanation",
    Judgement: "labels",
    Simulation: "strengths",
    Choice: "number",
    Texts: "texts",
}


def as_text(answer: Answer, question: Question) -> str:
    """The answer in the plainest of the formats that its kind has, for clients that answer typed questions.

    Raises:
        ValueError: the answer does not belong to the question.
    """
    return FORMATS[_PLAINEST[type(answer)]].format(answer, question)


def _count(question: Question) -> int:
    if not isinstance(question, Detect | Fuzz):
        raise ValueError(f"a question {question.name} has no labels")
    return len(question.passages)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text):
        found = match
    return found


def _after_marker(marker: re.Match[str]) -> str:
    """What follows the colon, without the end of a bold that began before the marker."""
    opened, rest = marker["open"], marker["rest"]
    if not opened or marker["mid"]:
        return marker["late"] + rest
    if marker["late"]:
        return rest
    return rest.rstrip().removesuffix(opened)


def _paragraph(first: str, following: str) -> str:
    """The first paragraph of what follows the marker."""
    lines = [first] if first.strip() else []
    for line in following.split("\n")[1:]:
        if not _END.match(line):
            lines.append(line.strip())
        elif lines or line.strip():
            break
    return " ".join(lines)


def _rule(following: str) -> Mapping[str, Any] | None:
    match = _RULE.search(following)
    if match is None:
        return None
    try:
        rule = json.loads(match["json"])
    except ValueError:
        return None
    return rule if isinstance(rule, dict) else None
