"""Fuzzing marks: right ones where the latent fires, and wrong ones that look just like them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from harness.examples import THRESHOLD, LatentExamples, draw, mark
from harness.examples.marks import active_marks
from harness.task import ExampleSettings
from harness.values import Example, Passage, ScoredSet


def example(tokens: tuple[str, ...], activations: list[float]) -> Example:
    active = any(activations)
    return Example(
        Passage(tokens), np.array(activations, dtype=np.float32), 1 if active else None, None if active else "random"
    )


def runs(marks: tuple[int, ...]) -> list[int]:
    lengths: list[int] = []
    for place, position in enumerate(marks):
        if place and position == marks[place - 1] + 1:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths


def test_positives_are_marked_from_the_threshold_of_their_own_maximum_on() -> None:
    positive = example(("a", "b", "c", "d", "e"), [0.0, 0.6, 2.0, 0.59, 1.0])
    assert active_marks(positive, 0.3) == (1, 2, 4)
    assert active_marks(positive, 0.0) == (0, 1, 2, 3, 4)
    assert active_marks(example(("a",), [0.0]), 0.3) == ()


@pytest.fixture
def drawn(build: Any) -> LatentExamples:
    made = build(contexts=500, rates=(0.05,), vocabulary=16)
    bursts = ExampleSettings.model_validate({"scored": {"activating": 100, "non_activating": 100}})
    found = draw(made.coder, 0, bursts, 0)
    assert isinstance(found, LatentExamples)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_judge_that_counts_marks_scores_one_half(drawn: LatentExamples, seed: int) -> None:
    examples = drawn.scored[0]
    passages = mark(examples, THRESHOLD, seed)
    sides: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}
    for one, passage in zip(examples.examples, passages, strict=True):
        sides[one.activating].append(passage.marks)
    assert Counter(map(len, sides[True])) == Counter(map(len, sides[False]))
    assert Counter(tuple(runs(marks)) for marks in sides[True]) == Counter(tuple(runs(m)) for m in sides[False])
    most = max(map(len, sides[True]))
    for least in range(1, most + 2):
        right = sum(len(m) >= least for m in sides[True]) + sum(len(m) < least for m in sides[False])
        assert right == len(passages) / 2


def test_negatives_are_marked_at_different_places(drawn: LatentExamples) -> None:
    passages = mark(drawn.scored[0], THRESHOLD, 0)
    patterns = {p.marks for p, e in zip(passages, drawn.scored[0].examples, strict=True) if not e.activating}
    assert len(patterns) > 30


def test_visible_marks_are_as_many_on_both_sides(drawn: LatentExamples) -> None:
    passages = mark(drawn.scored[0], THRESHOLD, 0)
    shown: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    for one, passage in zip(drawn.scored[0].examples, passages, strict=True):
        shown[one.activating][sum(passage.tokens[place] != "" for place in passage.marks)] += 1
    assert shown[True] == shown[False]


def test_marks_change_nothing_else(drawn: LatentExamples) -> None:
    passages = mark(drawn.scored[0], THRESHOLD, 0)
    for one, passage in zip(drawn.scored[0].examples, passages, strict=True):
        assert (passage.tokens, passage.place) == (one.passage.tokens, one.passage.place)
        if one.activating:
            assert passage.marks == active_marks(one, THRESHOLD)
    assert mark(drawn.scored[0], THRESHOLD, 0) == passages


def test_without_activating_examples_nothing_is_marked() -> None:
    quiet = ScoredSet("random", (example(("a", "b"), [0.0, 0.0]),))
    assert [passage.marks for passage in mark(quiet, 0.3, 0)] == [()]


def test_more_negatives_than_positives_use_each_pattern_equally() -> None:
    words = tuple(f" w{k}" for k in range(8))
    positives = [example(words, [float(k == place) for k in range(8)]) for place in range(4)]
    quiet = [example(words, [0.0] * 8) for _ in range(8)]
    passages = mark(ScoredSet("random", (*positives, *quiet)), 0.3, 0)
    assert Counter(passage.marks for passage in passages[4:]) == dict.fromkeys([(0,), (1,), (2,), (3,)], 2)
