"""Patterns of marks carried to other passages, so that they look there as they did where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from harness.values import Passage

__all__ = ["Look", "Pattern", "assign", "carry", "runs"]

# What a run of marks costs where it looks otherwise than at home. How many marks one sees comes before all else; a cut
# word or another kind of token weighs as much as tokens exp(2) times as frequent, or 40 positions of distance. Judges
# that know only these things (tests/examples/test_meaning.py) tell least with them.
_INVISIBLE: Final = 1000.0
_CUT: Final = 4.0
_CLASS: Final = 4.0
_RARITY: Final = 2.0
_DISTANCE: Final = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one sees of a passage's tokens without understanding them; of many, stacked, `[passages, ...]`.

    `begins` bool `[positions + 1]` says where words begin (one begins after the end), `visible` bool `[positions]`
    which tokens have text, `kinds` int64 is 0 for space, 1 for words, 2 for numbers and 3 for all else, `log_counts`
    float64 how frequent each token is.
    """

    begins: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    kinds: NDArray[np.int64]
    log_counts: NDArray[np.float64]

    @classmethod
    def of(cls, passage: Passage) -> Look:
        """A passage's look; a token continues a word if letters or digits meet without a space."""
        tokens = passage.tokens
        begins, last, waiting = [], "", False
        for token in tokens:
            joins = last[-1:].isalnum() and token[:1].isalnum()
            # a token of no text is either a special one or the first bytes of the next token's character
            begins.append(not joins and not waiting)
            waiting = token == "" and last != ""
            last = token or last
        stripped = [token.strip() for token in tokens]
        return cls(
            np.array([*begins, True]),
            np.array([text != "" for text in stripped], dtype=bool),
            np.array([_kind(text) for text in stripped], dtype=np.int64),
            passage.log_counts(),
        )

    @classmethod
    def stacked(cls, looks: Sequence[Look]) -> Look:
        """The looks of passages of one length."""
        columns = ("begins", "visible", "kinds", "log_counts")
        return cls(*(np.stack([getattr(look, column) for look in looks]) for column in columns))


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """Marks, ascending, and the look of the passage they stand in."""

    marks: tuple[int, ...]
    home: Look


def carry(
    pattern: Pattern, targets: Look, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A pattern put into passages, each as long as its own, where it is least unlike what it was.

    Each run of marks keeps its length and its place in the order, and runs never touch. One after the other goes where
    it costs least: as many visible tokens, words begun and ended as before, tokens of the same kind and as frequent,
    near to where it stood.

    Args:
        pattern: the marks to put.
        targets: the passages, stacked.
        allowed: bool `[targets, positions]`, which positions may be marked; None allows all.

    Returns:
        The marks, `[targets, marks]`, and what they cost, `[targets]`: infinite where a pattern has no room.
    """
    free = np.ones(targets.visible.shape, dtype=bool) if allowed is None else allowed
    parts = runs(pattern.marks)
    room = _room(parts, free)
    rows = np.arange(len(free))
    total, floor = np.zeros(len(free)), np.zeros(len(free), dtype=np.int64)
    placed: list[NDArray[np.int64]] = []
    for (start, length), fits in zip(parts, room, strict=True):
        places, stop = np.arange(fits.shape[1]), start + length
        home, inside = pattern.home, slice(start, stop)
        cost = _DISTANCE * np.abs(places - start) + np.zeros((len(free), 1))
        cost += _CUT * (targets.begins[:, places] != home.begins[start])
        cost += _CUT * (targets.begins[:, places + length] != home.begins[stop])
        cost += _INVISIBLE * np.abs(_sums(targets.visible, length) - home.visible[inside].sum())
        for step in range(length):
            shifted = places + step
            cost += _CLASS / length * (targets.kinds[:, shifted] != home.kinds[start + step])
            cost += _RARITY / length * np.abs(targets.log_counts[:, shifted] - home.log_counts[start + step])
        cost[~fits | (places < floor[:, None])] = np.inf
        best = cost.argmin(axis=1)
        total += cost[rows, best]
        floor = best + length + 1
        placed += [best + step for step in range(length)]
    marks = np.stack(placed, axis=1) if placed else np.empty((len(free), 0), dtype=np.int64)
    return marks, total


def assign(costs: NDArray[np.float64], generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows and columns whose costs have the least sum, none twice; ties are left to chance.

    Pairs of infinite cost are left out.
    """
    rows, columns = generator.permutation(costs.shape[0]), generator.permutation(costs.shape[1])
    # more than all finite costs together, so that as many pairs as can be are finite
    huge = 1e9
    one, other = linear_sum_assignment(np.minimum(costs[np.ix_(rows, columns)], huge))
    one, other = rows[one], columns[other]
    kept = np.isfinite(costs[one, other])
    return one[kept], other[kept]


def runs(marks: tuple[int, ...]) -> list[tuple[int, int]]:
    """Runs of consecutive marks as (first position, length)."""
    if not marks:
        return []
    edges = np.flatnonzero(np.diff(marks) != 1) + 1
    return [(int(part[0]), len(part)) for part in np.split(np.asarray(marks), edges)]


def _room(parts: Sequence[tuple[int, int]], free: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """For each run, `[targets, places]`: whether it fits there and the later ones after it, with a gap before each."""
    room: list[NDArray[np.bool_]] = []
    # whether the later runs fit from a position on; one beyond the end, for a gap that is not needed
    after = np.ones((len(free), free.shape[1] + 2), dtype=bool)
    for _, length in reversed(parts):
        here = _sums(free, length) == length
        here &= after[:, length + 1 : length + 1 + here.shape[1]]
        room.insert(0, here)
        after = np.zeros_like(after)
        after[:, : here.shape[1]] = np.logical_or.accumulate(here[:, ::-1], axis=1)[:, ::-1]
    return room


def _sums(values: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """How many are true in each stretch of that length, `[targets, places]`."""
    return np.lib.stride_tricks.sliding_window_view(values, length, axis=1).sum(axis=2)


def _kind(text: str) -> int:
    if not text:
        return 0
    return 1 if text[0].isalpha() else 2 if text[0].isdigit() else 3
