"""Marks for fuzzing: which tokens of a passage are claimed to activate the latent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from harness.values import Example, Passage, ScoredSet, seed_of

__all__ = ["THRESHOLD", "active_marks", "mark", "moved"]

THRESHOLD: Final = 0.3


def mark(examples: ScoredSet, threshold: float, seed: int) -> tuple[Passage, ...]:
    """Mark the tokens of each example, right ones where it activates and wrong ones where it does not.

    An activating example is marked where `activation >= threshold * window maximum` (paper section 5). Every other
    example gets the whole pattern of one activating example, each pattern used equally often, moved only as far as
    word pieces need (`moved`); so how many marks there are, and how many in a row, tells nothing.

    Args:
        examples: the examples of a rung.
        threshold: a share of the window's maximum, 0 to 1.
        seed: of this latent and rung, such as `seed_of(run seed, coder, latent, "marks")`.

    Returns:
        One passage an example, in their order.
    """
    patterns = [active_marks(example, threshold) for example in examples.examples]
    donors = [place for place, example in enumerate(examples.examples) if example.activating]
    takers = [place for place, example in enumerate(examples.examples) if not example.activating]
    generator = np.random.Generator(np.random.PCG64(seed_of(seed, examples.rung)))
    rounds = -(-len(takers) // max(len(donors), 1))
    given = [donors[k] for _ in range(rounds) for k in generator.permutation(len(donors)).tolist()]
    for taker, donor in zip(takers, given, strict=False):
        source, target = examples.examples[donor].passage.tokens, examples.examples[taker].passage.tokens
        patterns[taker] = moved(patterns[donor], source, target)
    return tuple(
        replace(example.passage, marks=pattern) for example, pattern in zip(examples.examples, patterns, strict=True)
    )


def active_marks(example: Example, threshold: float) -> tuple[int, ...]:
    """The positions whose activation is at least that share of the window's maximum; none where it is silent."""
    peak = float(example.activations.max(initial=0.0))
    if peak <= 0:
        return ()
    return tuple(np.flatnonzero(example.activations >= threshold * peak).tolist())


def moved(marks: tuple[int, ...], source: tuple[str, ...], target: tuple[str, ...]) -> tuple[int, ...]:
    """A pattern of marks carried from one passage to another of the same length.

    Each run of marks keeps its length and its place in the order, and goes to the nearest place where it cuts words
    as it did in `source`: begins at a word's beginning if it did there, ends at a word's end if it did there, and
    shows as many visible tokens. Runs never touch. Where no place does all that, the one that does most of it.
    """
    runs = _runs(marks)
    before, after = _Words.of(source), _Words.of(target)
    placed: list[int] = []
    floor = 0
    for number, (start, length) in enumerate(runs):
        # the later runs need room: their lengths and a gap before each
        rest = sum(size + 1 for _, size in runs[number + 1 :])
        best = _best_place(
            before.cut(start, length), after, start, length, range(floor, len(target) - rest - length + 1)
        )
        placed.extend(range(best, best + length))
        floor = best + length + 1
    return tuple(placed)


def _best_place(cut: _Cut, words: _Words, wish: int, length: int, places: range) -> int:
    """The place nearest to the wished one among those most like `cut`."""

    def unlike(place: int) -> tuple[int, int]:
        here = words.cut(place, length)
        # an invisible mark changes how many marks one counts, so it weighs most
        return abs(here.visible - cut.visible), (here.begins != cut.begins) + (here.ends != cut.ends)

    nearest = sorted(places, key=lambda place: abs(place - wish))
    for place in nearest:
        if unlike(place) == (0, 0):
            return place
    return min(nearest, key=unlike)


def _runs(marks: tuple[int, ...]) -> list[tuple[int, int]]:
    """Runs of consecutive marks as (first position, length)."""
    if not marks:
        return []
    edges = np.flatnonzero(np.diff(marks) != 1) + 1
    return [(int(part[0]), len(part)) for part in np.split(np.asarray(marks), edges)]


@dataclass(frozen=True, slots=True)
class _Cut:
    """How a run of marks lies on words: whether it begins and ends with whole ones, and what one sees of it."""

    begins: bool
    ends: bool
    visible: int


@dataclass(frozen=True, slots=True)
class _Words:
    """Where words begin in a passage; a token continues a word if letters or digits meet without a space."""

    begins: tuple[bool, ...]
    visible: tuple[int, ...]

    @classmethod
    def of(cls, tokens: tuple[str, ...]) -> _Words:
        begins, last, waiting = [], "", False
        for token in tokens:
            joins = last[-1:].isalnum() and token[:1].isalnum()
            # a token of no text is either a special one or the first bytes of the next token's character
            begins.append(not joins and not waiting)
            waiting = token == "" and last != ""
            last = token or last
        return cls((*begins, True), tuple(int(token.strip() != "") for token in tokens))

    def cut(self, start: int, length: int) -> _Cut:
        stop = start + length
        return _Cut(self.begins[start], self.begins[stop], sum(self.visible[start:stop]))
