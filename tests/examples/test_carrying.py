"""Patterns of marks in other passages: where they go, and in which."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples.carrying import Look, Pattern, assign, carry, runs
from harness.values import Passage, Place


class Text:
    """A source in which each token is as frequent as it says."""

    def __init__(self, counts: list[int]) -> None:
        self._counts = counts

    def pieces(self, context: int, start: int, stop: int) -> tuple[str, ...]:
        raise AssertionError("nobody asks for text")

    def log_counts(self, context: int, start: int, stop: int) -> np.ndarray:
        return np.log(self._counts[start:stop])


def look(tokens: tuple[str, ...], counts: list[int] | None = None) -> Look:
    return Look.of(Passage(tokens, (), Place("s", 0, 0), Text(counts or [1] * len(tokens))))


def moved(
    marks: tuple[int, ...], source: Look, target: Look, allowed: list[int] | None = None
) -> tuple[int, ...] | None:
    free = None if allowed is None else np.array([allowed], dtype=bool)
    places, cost = carry(Pattern(marks, source), Look.stacked([target]), free)
    return tuple(places[0].tolist()) if np.isfinite(cost[0]) else None


WALKING = look((" we", " walk", "ing", " on", " by", " the", " sea"))
CATS = look((" un", "believ", "able", " cats", " sit", " sing", "ing"))
WORDS = look((" a", " b", " c", " d", " e", " f"))


def test_words_that_were_marked_whole_stay_whole() -> None:
    # " walking" cuts no word, " believable" and "able cats" would, " cats sit" does not
    assert moved((1, 2), WALKING, CATS) == (3, 4)
    assert moved((3,), WALKING, CATS) == (3,)


def test_a_marked_last_piece_becomes_a_last_piece() -> None:
    assert moved((2,), WALKING, CATS) == (2,)
    assert moved((2,), WALKING, look((" a", " b", " c", " d", " e", " sing", "ing"))) == (6,)


def test_where_no_place_is_alike_the_marks_stay_as_near_as_can_be() -> None:
    assert moved((2,), WALKING, look((" a", " b", " c", " d", " e", " f", " g"))) == (2,)
    assert moved((0, 1, 2, 3, 4, 5), WORDS, WORDS) == (0, 1, 2, 3, 4, 5)


def test_marks_avoid_tokens_of_no_text_above_all() -> None:
    assert moved((0, 2), WORDS, look(("", " b", " c", " d", " e", " f"))) == (1, 3)
    assert moved((0,), WORDS, look(("", ".", "7", "", "", "!"))) == (1,)


@pytest.mark.parametrize(("mark", "place"), [(0, 4), (1, 1), (2, 0)])
def test_marks_go_to_tokens_of_the_same_kind(mark: int, place: int) -> None:
    source = look((" so", ",", " 12", " and", " on", " it"))
    assert moved((mark,), source, look((" 40", ".\n", "\n", "\n", " you", "!"))) == (place,)


def test_marks_go_to_tokens_that_are_as_frequent() -> None:
    source = look((" a", " b", " c", " d", " e", " f"), [1000, 5, 1000, 1000, 1000, 1000])
    target = look((" a", " b", " c", " d", " e", " f"), [5000, 900, 2000, 6, 800, 100])
    assert moved((1,), source, target) == (3,)
    assert moved((0,), source, target) == (1,)


def test_marks_go_only_where_they_may() -> None:
    assert moved((2,), WORDS, WORDS, [1, 1, 0, 0, 1, 1]) == (1,)
    assert moved((0, 1, 3), WORDS, WORDS, [0, 1, 1, 0, 0, 1]) == (1, 2, 5)
    assert moved((0, 1, 3), WORDS, WORDS, [1, 0, 1, 1, 1, 0]) is None
    assert moved((0, 1, 3), WORDS, WORDS, [1, 1, 1, 0, 0, 0]) is None


PIECES = st.sampled_from(["", " a", "b", " the", "ing", ".", " ,", "é", "\n", "7"])


@given(st.data(), st.integers(1, 32))
@settings(deadline=None, max_examples=100)
def test_a_moved_pattern_keeps_its_runs(data: st.DataObject, length: int) -> None:
    source, target = (look(tuple(data.draw(st.lists(PIECES, min_size=length, max_size=length)))) for _ in range(2))
    marks = tuple(sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1))))
    carried = moved(marks, source, target)
    assert carried is not None
    assert [size for _, size in runs(carried)] == [size for _, size in runs(marks)]
    assert all(0 <= place < length for place in carried)
    assert moved(marks, source, source) == marks


@given(st.data(), st.integers(1, 9))
@settings(deadline=None, max_examples=150)
def test_a_pattern_is_put_wherever_there_is_room(data: st.DataObject, length: int) -> None:
    words = look((" a",) * length)
    marks = tuple(sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1))))
    allowed = data.draw(st.lists(st.integers(0, 1), min_size=length, max_size=length))
    sizes = [size for _, size in runs(marks)]
    possible = [
        places
        for places in combinations([place for place in range(length) if allowed[place]], len(marks))
        if [size for _, size in runs(places)] == sizes
    ]
    found = moved(marks, words, words, allowed)
    assert found in possible if possible else found is None


def test_many_passages_are_as_each_alone() -> None:
    places, cost = carry(Pattern((1, 2), WALKING), Look.stacked([CATS, WALKING]))
    assert [tuple(row) for row in places.tolist()] == [moved((1, 2), WALKING, CATS), (1, 2)]
    assert cost[1] == 0 < cost[0]


@pytest.mark.parametrize("seed", range(5))
def test_pairs_have_the_least_cost_together(seed: int) -> None:
    costs = np.random.default_rng(seed).random((5, 5))
    rows, columns = assign(costs, np.random.default_rng(0))
    assert sorted(rows.tolist()) == sorted(columns.tolist()) == list(range(5))
    least = min(costs[range(5), order].sum() for order in permutations(range(5)))
    assert costs[rows, columns].sum() == pytest.approx(least)


def test_pairs_that_cannot_be_are_left_out_and_ties_left_to_chance() -> None:
    rows, columns = assign(np.array([[np.inf, 1.0], [np.inf, np.inf]]), np.random.default_rng(0))
    assert (rows.tolist(), columns.tolist()) == ([0], [1])
    found = {tuple(np.argsort(assign(np.zeros((3, 3)), np.random.default_rng(seed))[0])) for seed in range(50)}
    assert len(found) > 3
