"""Finds a judge's list of 0s and 1s in whatever a model wrote around it.

Forms understood, in any mixture of 0/1, true/false and yes/no, any case, with quotes or bold around the labels:
a list in brackets (also in a code fence, in JSON, in prose), labels with commas, a line of labels with spaces, a
label a line, numbered lines (`1. 0`, `Example 2: yes`, `| 3 | 0 |`), and a reply that is nothing but `10110`. The
last complete list of the right length counts; a list of another length never does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Label", "find_labels", "longest_list", "without_thinking"]

_VALUES = {"0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1}
# (?a: keeps out the long s, which is an s where case does not matter
# the lookarounds keep out parts of words, of other numbers and of decimals such as 0.5; 1.0 is a label
_LABEL = re.compile(r"(?<![\w.+\-])(?:([01])(?:\.0+)?|(?a:(true|false|yes|no)))(?!\w|\.\w|%)", re.IGNORECASE)
_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_COMMENT = re.compile(r"(?://|#)[^\n]*")
_WRAPPING = " \t\r\n*_`\"'\\"  # what may stand around a label inside a list
_THINKING = re.compile(
    r"\A\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)|\A.*^[ \t]*</think(?:ing)?>[ \t]*$",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
_PREFIX = re.compile(r"[ \t>*_`\"'#|-]*(?:[^\W\d][^\n:]{0,60}:)?[ \t*_`\"'(]*")
_ANSWER = re.compile(
    r"[ \t>*_`\"'#-]*(?:(?:the |my |final )*(?:answer|labels?|output|result|response|reply)(?: is)?[ \t*_]*:?)?"
    r"[ \t*_`\"'(]*",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"[ \t*_`\"').!;,|]*\Z")
# the repetitions are bounded to keep the search linear on long runs of spaces
_NUMBERED = re.compile(
    r"(?:^|[{,;|])[\s>*_#\"'`\-•|(\[]{0,12}(?:(?:example|passage|text|item|sentence|excerpt|label|answer)\s{0,3})?"
    r"#?(?P<number>\d{1,4})[ \t\"'`*_)\]]{0,6}(?:[:.=)|\]]|->|=>|→|—|–|-)[ \t:\"'`*_|\-]{0,8}"
    r"(?P<label>(?<![\w.+])(?a:[01]|true|false|yes|no))(?!\w|\.\w|%)"
    r"(?=[ \t\"'`*_]{0,6}(?:$|[\n,;.:(){}|\]\-–—#/]))",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Label:
    """A label and the `[start, stop)` of its characters in the reply."""

    value: int
    start: int
    stop: int


def find_labels(text: str, count: int) -> tuple[Label, ...] | None:
    """The last complete list of `count` labels in a reply, None where there is none."""
    if count < 1:
        return None
    text = without_thinking(text)
    found = [labels for labels in _candidates(text, count) if len(labels) == count]
    return max(found, key=lambda labels: labels[-1].stop, default=None)


def longest_list(text: str) -> int:
    """How many labels the longest list in brackets holds; 0 where there is none."""
    return max((len(labels) for labels, _ in _bracketed(without_thinking(text)) if labels), default=0)


def without_thinking(text: str) -> str:
    """The reply with a reasoning model's `<think>` part blanked, character for character."""
    return _THINKING.sub(lambda match: " " * len(match.group()), text)


def _candidates(text: str, count: int) -> Iterator[tuple[Label, ...]]:
    bare = text
    for labels, (start, stop) in _bracketed(text):
        if labels is not None and len(labels) == count:
            yield labels
        # a list of another length, or of other things, must not be read again as labels with commas
        bare = bare[:start] + " " * (stop - start - 1) + "|" + bare[stop:]
    yield from _chains(bare, count)
    yield from _lines(bare, count)
    yield from _numbered(text, count)
    yield from _packed(text, count)


def _bracketed(text: str) -> Iterator[tuple[tuple[Label, ...] | None, tuple[int, int]]]:
    """Each innermost pair of brackets: its labels, None where it holds anything else, and its characters."""
    for match in _BRACKETS.finditer(text):
        plain = text[: match.end() - 1]
        if "//" in match.group() or "#" in match.group():
            blank = _COMMENT.sub(lambda found: " " * len(found.group()), text[match.start() + 1 : match.end() - 1])
            plain = text[: match.start() + 1] + blank
        yield _list(plain, match.start() + 1), match.span()


def _list(text: str, start: int) -> tuple[Label, ...] | None:
    """The labels that `text[start:]` consists of, None where there is anything else between them."""
    labels = tuple(_labels(text, start))
    at = start
    for order, label in enumerate(labels):
        between = text[at : label.start].strip(_WRAPPING)
        if between not in (("",) if order == 0 else ("", ",", ";")):
            return None
        if order and at == label.start:
            return None
        at = label.stop
    return labels if labels and text[at:].strip(_WRAPPING) in ("", ",") else None


def _chains(text: str, count: int) -> Iterator[tuple[Label, ...]]:
    """Runs of labels with commas between them, in prose too if they are at least three."""
    chain: list[Label] = []
    for label in [*_labels(text, 0), None]:
        joined = label is not None and chain and _comma(text[chain[-1].stop : label.start])
        if label is not None and (joined or not chain):
            chain.append(label)
            continue
        if len(chain) == count and _alone(text, chain):
            yield tuple(chain)
        chain = [label] if label is not None else []


def _comma(between: str) -> bool:
    return between.strip(_WRAPPING).lower() in (",", ";", ", and", "and")


def _alone(text: str, chain: list[Label]) -> bool:
    """Whether a run of labels is no part of a longer list, and, if short, has its line to itself."""
    before, after = text[: chain[0].start], text[chain[-1].stop :]
    if re.search(r"\d\W{0,3}[,;]\s*\Z", before[-12:]) or re.match(r"\W{0,3}[,;]\s*[\"']?\d", after):
        return False
    if len(chain) >= 3:
        return True
    prefix = _PREFIX if len(chain) == 2 else _ANSWER
    line_before, line_after = before.rpartition("\n")[2], after.partition("\n")[0]
    return prefix.fullmatch(line_before) is not None and _SUFFIX.match(line_after) is not None


def _lines(text: str, count: int) -> Iterator[tuple[Label, ...]]:
    """Lines of labels with spaces between them, and runs of lines with a label each."""
    column: list[Label] = []
    start = 0
    for line in [*text.split("\n"), "end"]:
        labels = [Label(found.value, found.start + start, found.stop + start) for found in _labels(line, 0)]
        rest = re.sub(r"\A\s*[-*•>]\s", "", _blank(line, labels, start)).strip(_WRAPPING + ".,;")
        if len(labels) == count and count > 1 and _spaced(line, labels, start):
            yield tuple(labels)
        if len(labels) == 1 and not rest:
            column.append(labels[0])
        elif line.strip():
            if len(column) == count and count > 1:
                yield tuple(column)
            column = []
        start += len(line) + 1


def _blank(line: str, labels: list[Label], start: int) -> str:
    for label in labels:
        line = line[: label.start - start] + " " * (label.stop - label.start) + line[label.stop - start :]
    return line


def _spaced(line: str, labels: list[Label], start: int) -> bool:
    first, last = labels[0].start - start, labels[-1].stop - start
    inside = _blank(line, labels, start)[first:last]
    return not inside.strip(" \t|") and bool(_PREFIX.fullmatch(line[:first]) and _SUFFIX.match(line[last:]))


def _numbered(text: str, count: int) -> Iterator[tuple[Label, ...]]:
    """Labels after the numbers 1 to `count`, in order, and no further number after them."""
    matches = list(_NUMBERED.finditer(text))
    numbers = [int(match["number"]) for match in matches]
    for first in range(len(matches) - count + 1):
        if numbers[first : first + count] != list(range(1, count + 1)):
            continue
        if numbers[first + count : first + count + 1] == [count + 1]:
            continue
        run = matches[first : first + count]
        yield tuple(Label(_VALUES[match["label"].lower()], *match.span("label")) for match in run)


def _packed(text: str, count: int) -> Iterator[tuple[Label, ...]]:
    """A reply that is nothing but digits, one a label."""
    digits = text.strip(_WRAPPING + ".")
    if count > 1 and len(digits) == count and not digits.strip("01"):
        start = text.index(digits)
        yield tuple(Label(int(digit), start + at, start + at + 1) for at, digit in enumerate(digits))


def _labels(text: str, start: int) -> Iterator[Label]:
    for match in _LABEL.finditer(text, start):
        group = 1 if match[1] is not None else 2
        yield Label(_VALUES[match[group].lower()], match.start(), match.end())
