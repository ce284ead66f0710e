r"""Examples to text: marks between `<<` and `>>`, and corpus text escaped so that nothing in it looks like a mark.

The notation of an escaped text, which stands on one line and which `unescape` inverts:

| written | stands for |
|---|---|
| `\n`, `\r`, `\t` | line feed, carriage return, tab |
| `\\` | a backslash |
| `\<`, `\>` | a `<` or `>` that is doubled in the corpus or stands beside a mark |
| `\xff` | a byte that is no valid UTF-8 |
| `\u2028` | any other control character, line separator or change of writing direction |

All else stands for itself. A `<<` or `>>` without backslashes is therefore always a mark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from harness.questions.strength import Rounding, levels
from harness.values import Example

__all__ = [
    "MARK_SHARE",
    "Laid",
    "activating_positions",
    "escape",
    "lay_out",
    "one_line",
    "parse_marked",
    "quote",
    "strengths",
    "unescape",
]

MARK_SHARE = 0.3  # of the window's largest activation; a token above it is marked (paper section 4)

_CONTROL = (
    "\x00-\x1f\x7f-\x9f"  # C0, delete, C1
    "\u2028\u2029"  # line and paragraph separator
    "\u202a-\u202e\u2066-\u2069"  # changes of writing direction, which could reorder what follows on a screen
    "\ud800-\udfff"  # lone surrogates: bytes that are no valid UTF-8
)
_SPECIAL = re.compile(rf"[\\<>{_CONTROL}]")
_UNSAFE = re.compile(rf"[{_CONTROL}]")
_BREAK = re.compile(r"[^\S\n\r]*[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]\s*")
_ESCAPED = re.compile(r"\\(?:x(?P<byte>[0-9a-f]{2})|u(?P<unit>[0-9a-f]{4})|(?P<char>.))", re.DOTALL)
_NOTATION = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|.)|<<|>>|[^\\<>]+|[<>]", re.DOTALL)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}
_NAMES = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Laid:
    """A window as it is shown: its escaped text and, for each token, the `[start, stop)` of its characters there.

    Marks belong to no token.
    """

    text: str
    bounds: tuple[tuple[int, int], ...]


def lay_out(tokens: Sequence[str], marks: Sequence[int] = ()) -> Laid:
    """A window's text, escaped, with its marked tokens between `<<` and `>>`; consecutive ones share a pair.

    A marked token without text of its own (it begins a character that a later token completes) passes its mark to
    the next token that has text.
    """
    runs = _runs(tokens, marks)
    starts = [0, *accumulate(map(len, tokens))]
    edges = {starts[run[0]] for run in runs} | {starts[run[1] + 1] for run in runs}
    shown = _escape_tokens(tokens, starts, edges)
    opening, closing = {run[0] for run in runs}, {run[1] for run in runs}
    parts: list[str] = []
    bounds: list[tuple[int, int]] = []
    at = 0
    for position, token in enumerate(shown):
        if position in opening:
            parts.append("<<")
            at += 2
        parts.append(token)
        bounds.append((at, at + len(token)))
        at += len(token)
        if position in closing:
            parts.append(">>")
            at += 2
    return Laid("".join(parts), tuple(bounds))


def activating_positions(example: Example) -> NDArray[np.int64]:
    """The positions whose activation is above 0.3 of the window's largest, ascending (paper section 4)."""
    activations = np.asarray(example.activations, np.float64)
    top = activations.max(initial=0.0)
    return np.flatnonzero(activations > MARK_SHARE * top) if top > 0 else np.zeros(0, np.int64)


def strengths(
    tokens: Sequence[str],
    activations: NDArray[np.float32],
    marks: Sequence[int],
    maximum: float,
    rounding: Rounding = "floor",
) -> list[tuple[str, int]]:
    """The marked tokens with their strength, 0 to 10 (`harness.questions.strength.levels`).

    A token without text gives its strength to the one that completes its character; the larger counts.
    """
    strength = levels(activations, maximum, rounding)
    shown: dict[int, int] = {}
    for mark in marks:
        at = _visible(tokens, mark)
        if at is not None:
            shown[at] = max(shown.get(at, 0), int(strength[mark]))
    return [(tokens[at], level) for at, level in shown.items()]


def quote(text: str) -> str:
    """A corpus text in double quotes, escaped, quotes within it too."""
    return '"' + escape(text).replace('"', '\\"') + '"'


def escape(text: str) -> str:
    """A corpus text in the notation of this module, without marks."""
    return lay_out([text]).text


def unescape(text: str) -> str:
    """The corpus text that an escaped one without marks stands for."""
    return _ESCAPED.sub(_plain, text)


def parse_marked(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """A marked text in the notation of this module as tokens, cut at the marks, and which of them are marked.

    Raises:
        ValueError: marks are nested, empty or not closed.
    """
    tokens: list[str] = []
    marks: list[int] = []
    current: list[str] = []
    inside = False
    for match in _NOTATION.finditer(text):
        part = match.group()
        if part not in ("<<", ">>"):
            current.append(unescape(part))
            continue
        if inside != (part == ">>") or (inside and not current):
            raise ValueError(f'"{part}" at character {match.start() + 1} does not pair up')
        if current:
            marks += [len(tokens)] if inside else []
            tokens.append("".join(current))
            current = []
        inside = not inside
    if inside:
        raise ValueError('the last "<<" is not closed')
    return (*tokens, "".join(current)) if current else tuple(tokens), tuple(marks)


def one_line(text: str) -> str:
    """Words on one line without control characters: an explanation as it is shown to a judge.

    Nothing is escaped: whoever wrote it saw escaped windows and quotes them as they will be seen again.
    """
    return _UNSAFE.sub("\ufffd", _BREAK.sub(" ", text).replace("\t", " ")).strip()


def _visible(tokens: Sequence[str], mark: int) -> int | None:
    """The first position from `mark` on whose token has text; None where there is none."""
    return next((position for position in range(mark, len(tokens)) if tokens[position]), None)


def _runs(tokens: Sequence[str], marks: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of marked tokens that have text, as (first, last) positions; tokens without text do not part a run."""
    shown = sorted({at for at in (_visible(tokens, mark) for mark in marks) if at is not None})
    runs: list[tuple[int, int]] = []
    for at in shown:
        if runs and not any(tokens[runs[-1][1] + 1 : at]):
            runs[-1] = (runs[-1][0], at)
        else:
            runs.append((at, at))
    return runs


def _escape_tokens(tokens: Sequence[str], starts: Sequence[int], edges: set[int]) -> Sequence[str]:
    text = "".join(tokens)
    if _SPECIAL.search(text) is None:
        return tokens

    def written(char: str, at: int) -> str:
        if char in "<>":
            beside = char in (text[at - 1 : at], text[at + 1 : at + 2]) or at in edges or at + 1 in edges
            return "\\" + char if beside else char
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            return f"\\x{code - 0xDC00:02x}"
        return _NAMED.get(char) or f"\\u{code:04x}"

    return [
        _SPECIAL.sub(lambda match, start=start: written(match.group(), start + match.start()), token)
        for token, start in zip(tokens, starts, strict=False)
    ]


def _plain(match: re.Match[str]) -> str:
    if match["byte"] is not None:
        return chr(0xDC00 + int(match["byte"], 16))
    if match["unit"] is not None:
        return chr(int(match["unit"], 16))
    return _NAMES.get(match["char"], match["char"])
