"""Which units of very many latents there are: a journal read once, from its first row to its last.

To look each unit up by its key takes a tenth of a millisecond; this takes some microseconds, and memory of some 40
bytes a unit.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from harness.clients.packing import unpack_quickly
from harness.runs.arms import ExplanationArm, ScoreArm, constant, fixed, judges
from harness.runs.journal import Journal
from harness.runs.keys import explanation_key, score_key, shuffled_key
from harness.values import Explanation, FailureStatus, Status

__all__ = ["FIXED", "MISSING", "STATUSES", "Done", "Reader", "Skimmed", "skim"]

# what a number for a status means
STATUSES: tuple[Status, ...] = ("ok", *get_args(FailureStatus))
# in the place of an explanation's number: none is done, or it is the same for every latent
MISSING, FIXED = -1, -2
# rows that are taken from the journal at once
_ROWS = 5000
# of a key so many bytes are compared: among 2 ** 30 units two share them with a chance of 2 ** -68
_KEY = 16

Numbers = NDArray[np.int64]


class Reader(Protocol):
    """Whoever wants to see what is in the units that are skimmed."""

    def explanation(self, status: str, result: Mapping[str, Any]) -> None:
        """An explanation that the task reaches, in the order of their numbers."""
        ...

    def scores(self, rows: Sequence[tuple[str, bytes, bytes | None]]) -> None:
        """Scores of these scorers: status, packed result, packed verdicts; in the order of their numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Skimmed:
    """The units that a task reaches.

    `explanations` has for each arm the number of each latent's explanation, `[latents]` in the order of the arm's
    coder, or `MISSING` or `FIXED`; `scores` for each arm and scorer, by their places in the task, the number of each
    score, or `MISSING`. Explanations and scores are numbered by themselves as they stand in the journal; statuses
    (places in `STATUSES`) and whether they are pending are by these numbers.
    """

    explanations: tuple[Numbers, ...]
    scores: Mapping[tuple[int, int], Numbers]
    explanation_statuses: NDArray[np.uint8]
    explanation_pending: NDArray[np.bool_]
    score_statuses: NDArray[np.uint8]
    score_pending: NDArray[np.bool_]

    def done(self, arms: Sequence[int], *, failed_again: bool = False) -> Done:
        """Which latents have all that these arms, of one coder, are to have.

        Failures count as done unless they failed for a passing reason, or `failed_again`.
        """
        again = self.explanation_pending | ((self.explanation_statuses > 0) & failed_again)
        score_again = self.score_pending | ((self.score_statuses > 0) & failed_again)
        done = np.ones(len(self.explanations[arms[0]]) if arms else 0, dtype=bool)
        for arm in arms:
            numbers = self.explanations[arm]
            done &= (numbers == FIXED) | _all_right(numbers, again)
            for scores in self._of(arm):
                done &= ~self._asked(numbers) | _all_right(scores, score_again)
        counts: Counter[Status] = Counter()
        for arm in arms:
            numbers = self.explanations[arm]
            _count(counts, self.explanation_statuses, numbers[done & (numbers >= 0)])
            for scores in self._of(arm):
                _count(counts, self.score_statuses, scores[done & self._asked(numbers)])
        return Done(done, counts)

    def _of(self, arm: int) -> list[Numbers]:
        return [numbers for (one, _), numbers in self.scores.items() if one == arm]

    def _asked(self, numbers: Numbers) -> NDArray[np.bool_]:
        """Where there is something to score."""
        ok = self.explanation_statuses == 0
        return (numbers == FIXED) | _taken(ok, numbers)


@dataclass(frozen=True, slots=True)
class Done:
    """Which latents are done, `[latents]`, and their units by status, each arm's counted."""

    done: NDArray[np.bool_]
    statuses: Mapping[Status, int]


def _all_right(numbers: Numbers, again: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return (numbers >= 0) & ~_taken(again, numbers)


def _taken(values: NDArray[np.bool_], numbers: Numbers) -> NDArray[np.bool_]:
    """The values of these numbers, False where there is none."""
    there = numbers >= 0
    found = np.zeros(len(numbers), dtype=bool)
    found[there] = values[numbers[there]]
    return found


def _count(counts: Counter[Status], statuses: NDArray[np.uint8], numbers: Numbers) -> None:
    for code, count in enumerate(np.bincount(statuses[numbers], minlength=len(STATUSES)).tolist()):
        if count:
            counts[STATUSES[code]] += count


@dataclass(slots=True)
class _Seen:
    """Units of one kind as they are met."""

    statuses: bytearray = field(default_factory=bytearray)
    pending: bytearray = field(default_factory=bytearray)

    def add(self, status: str, pending: int) -> None:
        self.statuses.append(_CODES[status])
        self.pending.append(pending)

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return np.frombuffer(self.statuses, np.uint8), np.frombuffer(self.pending, np.uint8).astype(bool)


_CODES = {status: code for code, status in enumerate(STATUSES)}


def skim(
    journal: Journal,
    arms: Sequence[ExplanationArm],
    scoring: Sequence[ScoreArm],
    latents: Mapping[str, Sequence[int]],
    reader: Reader | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Skimmed | None:
    """The units of these arms and scorers on these latents, `latents` in their order by coder; None if it was stopped.

    May be called from any thread.
    """
    wanted = _Wanted(arms, scoring, latents)
    explaining = wanted.by_digest()
    judging = {bytes.fromhex(one.digest) for one in scoring}
    seen, scores, keys = _Seen(), _Seen(), bytearray()
    for rows in journal.scan(_ROWS, [arm.digest for arm in arms], whole=reader is not None):
        if stopping():
            return None
        told: list[tuple[str, bytes, bytes | None]] = []
        for key, arm, latent, status, pending, result, verdicts in rows:
            if arm in judging:
                keys += key[:_KEY]
                scores.add(status, pending)
                told.append((status, result, verdicts))
            elif arm in explaining:
                found = unpack_quickly(result)
                if wanted.take(explaining[arm], key, latent, len(seen.statuses), status, found):
                    seen.add(status, pending)
                    if reader is not None:
                        reader.explanation(status, found)
        if reader is not None and told:
            reader.scores(told)
    return Skimmed(tuple(wanted.numbers), wanted.matched(bytes(keys)), *seen.arrays(), *scores.arrays())


class _Wanted:
    """The explanations and scores that a task reaches, as far as their keys are known."""

    def __init__(
        self, arms: Sequence[ExplanationArm], scoring: Sequence[ScoreArm], latents: Mapping[str, Sequence[int]]
    ) -> None:
        self._arms, self._scoring, self._latents = arms, scoring, latents
        self._places = {coder: _places(indices) for coder, indices in latents.items()}
        self._judges = [[at for at, one in enumerate(scoring) if judges(one, arm)] for arm in arms]
        sizes = [len(latents[arm.coder]) for arm in arms]
        self.numbers = [
            np.full(size, FIXED if fixed(arm) else MISSING, np.int64) for arm, size in zip(arms, sizes, strict=True)
        ]
        self._keys = {
            (at, other): np.zeros((size, _KEY), np.uint8) for at, size in enumerate(sizes) for other in self._judges[at]
        }
        for at, arm in enumerate(arms):
            if fixed(arm):
                for place, latent in enumerate(latents[arm.coder]):
                    self._want(at, place, latent, constant(arm.control))

    def by_digest(self) -> dict[bytes, list[int]]:
        """The arms whose explanations are journalled; equal explainers share theirs."""
        found: dict[bytes, list[int]] = {}
        for at, arm in enumerate(self._arms):
            if not fixed(arm):
                found.setdefault(bytes.fromhex(arm.digest), []).append(at)
        return found

    def take(
        self, arms: list[int], key: bytes, latent: int, number: int, status: str, result: Mapping[str, Any]
    ) -> bool:
        """Note an explanation if it is what these arms have of a latent."""
        arm = self._arms[arms[0]]
        places = self._places[arm.coder]
        place = int(places[latent]) if 0 <= latent < len(places) else MISSING
        if place == MISSING or key.hex() != self._key(arm, place, latent):
            return False
        explanation = Explanation(result["text"], result["rule"]) if status == "ok" else None
        for at in arms:
            self.numbers[at][place] = number
            if explanation is not None:
                self._want(at, place, latent, explanation)
        return True

    def _key(self, arm: ExplanationArm, place: int, latent: int) -> str:
        if arm.control != "shuffled":
            return explanation_key(arm, latent)
        cycle = self._latents[arm.coder]
        return shuffled_key(arm, latent, cycle[(place + 1) % len(cycle)])

    def _want(self, arm: int, place: int, latent: int, explanation: Explanation | None) -> None:
        for other in self._judges[arm]:
            key = bytes.fromhex(score_key(self._scoring[other], latent, explanation))
            self._keys[arm, other][place] = np.frombuffer(key, np.uint8, _KEY)

    def matched(self, keys: bytes) -> dict[tuple[int, int], Numbers]:
        """The numbers of the wanted scores among those of these keys."""
        found = np.frombuffer(keys, np.uint64).reshape(-1, 2)
        order = np.argsort(found[:, 0], kind="stable")
        ordered = found[order]
        matched = {}
        for whose, wanted in self._keys.items():
            numbers = np.full(len(wanted), MISSING, np.int64)
            if len(order):
                asked = wanted.view(np.uint64)
                at = np.searchsorted(ordered[:, 0], asked[:, 0]).clip(max=len(order) - 1)
                same = (ordered[at] == asked).all(axis=1)
                numbers[same] = order[at[same]]
            matched[whose] = numbers
        return matched


def _places(indices: Sequence[int]) -> array[int]:
    """Where in the order each index is."""
    places = array("q", [MISSING]) * (max(indices, default=-1) + 1)
    for at, index in enumerate(indices):
        places[index] = at
    return places
