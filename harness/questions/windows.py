"""What a prompt's template sees of a question's windows, and how they are laid out where it has run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.questions.kinds import Explain, Generate, Question, Rises, Simulate
from harness.questions.render import Laid, activating_positions, escape, lay_out, one_line, quote, strengths
from harness.values import Example, Rise

__all__ = ["Activation", "Attempted", "Moved", "Risen", "Shown", "Window", "explaining", "risen", "windows"]


@dataclass(frozen=True, slots=True)
class Activation:
    """An activating token as a template sees it: in quotes, with its strength from 0 to 10."""

    token: str
    strength: int


@dataclass(frozen=True, slots=True)
class Shown:
    """An example as a template sees it; `text` and `marked` are stand-ins."""

    number: int
    text: str
    marked: str
    activations: tuple[Activation, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """A token as a template sees it: in quotes, with the change of its probability or logit."""

    token: str
    change: str


@dataclass(frozen=True, slots=True)
class Risen:
    """What an intervention did to the next token, as a template sees it; `text` is None where there is none."""

    number: int
    text: str | None
    rose: tuple[Moved, ...]
    fell: tuple[Moved, ...]


@dataclass(frozen=True, slots=True)
class Attempted:
    """An explanation that was tried, as a template sees it, with what was got wrong by it."""

    explanation: str
    missed: tuple[Shown, ...]
    taken: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """An example before it is laid out: its tokens, which of them are marked, and what lays it out."""

    shown: Shown
    tokens: tuple[str, ...]
    marks: tuple[int, ...]
    lay: Callable[[Sequence[str], Sequence[int]], Laid] = lay_out


def windows(question: Question) -> list[Window]:
    """All windows that a question shows, in the order in which stand-ins count them."""
    if isinstance(question, Explain):
        return _explained(question)
    if isinstance(question, Simulate):
        return [Window(_shown(0, ()), question.passage.tokens, (), _numbered)]
    if isinstance(question, Generate | Rises):
        return []
    passages = enumerate(question.passages)
    return [Window(_shown(index, ()), passage.tokens, passage.marks) for index, passage in passages]


def explaining(question: Explain, shown: Sequence[Shown]) -> dict[str, Any]:
    """The values of an explain template; `shown` are all windows, in the order of `windows`."""
    left = iter(shown)
    examples = [next(left) for _ in question.examples]
    values: dict[str, Any] = {"examples": examples, "silent": [next(left) for _ in question.silent], "tried": None}
    rise = question.projected or Rise(None, ())
    values |= {"promoted": [quote(token) for token, _ in rise.rose], "suppressed": [quote(t) for t, _ in rise.fell]}
    if (tried := question.tried) is not None:
        missed, taken = tuple(next(left) for _ in tried.missed), tuple(next(left) for _ in tried.taken)
        values["tried"] = Attempted(one_line(tried.explanation.text), missed, taken)
    return values


def _numbered(tokens: Sequence[str], marks: Sequence[int]) -> Laid:  # noqa: ARG001 - laid out as windows are
    """A token a line, numbered from 1 and in quotes; bounds are those of the quoted tokens."""
    laid = lay_out(tokens)
    parts: list[str] = []
    bounds: list[tuple[int, int]] = []
    at = 0
    for number, (start, stop) in enumerate(laid.bounds, 1):
        head = f"{chr(10) if number > 1 else ''}{number}: "
        token = '"' + laid.text[start:stop].replace('"', '\\"') + '"'
        parts += [head, token]
        bounds.append((at + len(head), at + len(head) + len(token)))
        at = bounds[-1][1]
    return Laid("".join(parts), tuple(bounds))


def _explained(question: Explain) -> list[Window]:
    """Every window that is shown, numbered within its group."""
    tried = () if question.tried is None else (question.tried.missed, question.tried.taken)
    groups = (question.examples, question.silent, *tried)
    numbered = [pair for group in groups for pair in enumerate(group, 1)]
    return [_example(index, number, example, question) for index, (number, example) in enumerate(numbered)]


def _example(index: int, number: int, example: Example, question: Explain) -> Window:
    tokens = example.passage.tokens
    marks = tuple(activating_positions(example).tolist())
    pairs = strengths(tokens, example.activations, marks, question.maximum, question.rounding)
    listed = tuple(Activation(quote(token), strength) for token, strength in pairs)
    return Window(replace(_shown(index, listed), number=number), tokens, marks)


def risen(index: int, rise: Rise) -> Risen:
    """What a template sees of a rise, the `index`-th from 0."""
    rose, fell = (tuple(Moved(quote(token), f"{by:+.3f}") for token, by in moved) for moved in (rise.rose, rise.fell))
    return Risen(index + 1, None if rise.text is None else escape(rise.text), rose, fell)


def _shown(index: int, activations: tuple[Activation, ...]) -> Shown:
    return Shown(index + 1, f"\0p{index}\0", f"\0m{index}\0", activations)
