r"""Texts as a reply: numbered lines, a text each, or a JSON list of strings.

In a line `\n` is a line break and `\\` a backslash, so that a text of several lines stands on one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from harness.questions.kinds import Answer, Generate, Question, Texts
from harness.questions.labels import without_thinking
from harness.questions.refusals import unanswered
from harness.values import Failure, TokenLogprob

__all__ = ["TextList"]

_NUMBERED = re.compile(
    r"[ \t>*_#`-]{0,8}(?:(?:text|example|sentence|passage|item)[ \t]{1,3})?#?(?P<number>\d{1,3})[*_]{0,2}"
    r"(?:[.):](?![^\s*_\"“])|[ \t][-–—][ \t])[*_]{0,2}(?P<text>.*)",
    re.IGNORECASE,
)
_BULLET = re.compile(r"[ \t>]{0,8}[-*•–](?:[ \t]+(?P<text>.*))")
# at the beginning of a line, or of a value there: a list inside a text is none
_JSON = re.compile(r"^[ \t]*(?:\{\s*)?(?:\"\w{1,40}\"[ \t]*:[ \t]*)?(?P<list>\[\s*\")", re.MULTILINE)
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_WRITTEN = re.compile(r"\\([n\\])")
_QUOTES = ('""', "“”")


class TextList:
    """Numbered lines, a text each."""

    def parse(
        self,
        question: Question,
        text: str,
        logprobs: Sequence[TokenLogprob] | None,  # noqa: ARG002 - words have no probability of their own
        *,
        rules: bool = False,  # noqa: ARG002 - texts have no rule
    ) -> Texts | Failure:
        """The first texts of the last list that holds as many as were asked for.

        Lists are taken as lines that are numbered from 1 (a text may go on until a blank line), as a JSON list of
        strings, or as lines with bullets. Quotation marks around a whole text are no part of it.
        """
        count = _count(question)
        text = without_thinking(text).strip()
        most = 0
        for kind in (_numbered_lists, _json_lists, _bullet_lists):
            found = [texts for texts in kind(text) if all(each.strip() for each in texts)]
            enough = [texts for texts in found if len(texts) >= count]
            if enough:
                return Texts(tuple(_whole(each) for each in enough[-1][:count]))
            most = max([most, *map(len, found)])
        return unanswered(text, f"the reply has {most or 'no'} text{'s' * (most != 1)} where {count} are needed")

    def format(self, answer: Answer, question: Question) -> str:
        """Numbered lines; a JSON list where a text would not be read from a line as it is."""
        if not isinstance(answer, Texts) or len(answer.texts) != _count(question):
            raise ValueError(f"{_count(question)} texts are needed, not {answer!r}")
        if not all(each.strip() for each in answer.texts):
            raise ValueError("a text is blank")
        lines = "\n".join(f"{number}. {_on_one_line(each)}" for number, each in enumerate(answer.texts, 1))
        if self.parse(question, lines, None) == answer:
            return lines
        return json.dumps(list(answer.texts), ensure_ascii=False)

    def reminder(self, question: Question) -> str:
        """One sentence that asks for this format again."""
        count = _count(question)
        lines = "one line that begins with 1." if count == 1 else f"exactly {count} lines, numbered from 1. to {count}."
        return f"Reply with {lines} and a text on each, nothing else."


def _count(question: Question) -> int:
    if not isinstance(question, Generate):
        raise ValueError(f"a question {question.name} has no texts for an answer")
    return question.count


def _json_lists(text: str) -> Iterator[list[str]]:
    decoder = json.JSONDecoder(strict=False)
    for match in _JSON.finditer(text):
        try:
            found, _ = decoder.raw_decode(text, match.start("list"))
        except (ValueError, RecursionError):
            continue
        if all(isinstance(each, str) for each in found):
            yield found


def _numbered_lists(text: str) -> Iterator[list[str]]:
    """Runs of lines numbered 1, 2, 3 and so on; a line without a number goes on with the text above it."""
    texts: list[list[str]] = []
    open_ = False
    for line in text.split("\n"):
        match = _NUMBERED.fullmatch(line.rstrip("\r"))
        number = int(match["number"]) if match else 0
        if match and number == 1 and texts:
            yield [_joined(lines) for lines in texts]
            texts = []
        if match and number == len(texts) + 1:
            texts.append([match["text"]])
            open_ = True
        elif open_ and line.strip() and not _FENCE.match(line):
            texts[-1].append(line)
        else:
            # a blank line ends a text that has begun
            open_ = open_ and not any(part.strip() for part in texts[-1])
    if texts:
        yield [_joined(lines) for lines in texts]


def _bullet_lists(text: str) -> Iterator[list[str]]:
    found = [match["text"] for line in text.split("\n") if (match := _BULLET.fullmatch(line.rstrip("\r")))]
    if found:
        yield [_joined([each]) for each in found]


def _joined(lines: Sequence[str]) -> str:
    """The text that stands on lines, without quotation marks around it."""
    text = "\n".join(line.strip() for line in lines if line.strip())
    for first, last in _QUOTES:
        inside = text[1:-1]
        if len(text) > 2 and text[0] == first and text[-1] == last and first not in inside and last not in inside:
            text = inside
            break
    return _WRITTEN.sub(lambda match: "\n" if match[1] == "n" else "\\", text)


def _on_one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _whole(text: str) -> str:
    """The text without halves of characters, which JSON can hold and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()
