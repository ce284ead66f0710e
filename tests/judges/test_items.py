"""Planted items: the same for every judge, and of known truth."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from harness import resources, rules
from harness.examples.marks import THRESHOLD, mark
from harness.judges.items import GROUPS, KINDS, Kind, PlantedSet, planted_sets
from harness.values import Passage, digest

CONCEPTS = {concept.name: concept for concept in rules.load_concepts(resources.fixture("concepts.json")).concepts}


def drawn(sets: tuple[PlantedSet, ...]) -> str:
    return digest([planted.identity() for planted in sets])


def test_there_are_four_hundred_items_one_half_active() -> None:
    sets = [planted for kind in KINDS for planted in planted_sets(0, kind)]
    truths = [[example.activating for example in planted.examples.examples] for planted in sets]
    assert sum(map(len, truths)) == 400
    assert all(sum(truth) == 5 for truth in truths)
    for kind in KINDS:
        assert Counter(planted.group for planted in planted_sets(0, kind)) == GROUPS


def test_equal_seeds_give_equal_items_and_others_give_others() -> None:
    once = drawn(planted_sets(0, "detection"))
    planted_sets.cache_clear()
    assert drawn(planted_sets(0, "detection")) == once
    assert drawn(planted_sets(1, "detection")) != once
    assert drawn(planted_sets(0, "fuzzing")) != once


def test_the_windows_of_a_set_are_in_no_telling_order() -> None:
    orders = {
        tuple(example.activating for example in planted.examples.examples) for planted in planted_sets(0, KINDS[0])
    }
    assert len(orders) > 15


@pytest.mark.parametrize("kind", KINDS)
def test_the_explanation_is_the_concepts_its_siblings_or_an_unlike_ones(kind: Kind) -> None:
    for planted in planted_sets(0, kind):
        own, told = CONCEPTS[planted.concept], CONCEPTS[planted.told]
        assert planted.explanation.text == told.sentences[0]
        assert planted.explanation.rule is None  # nothing but words is told
        match planted.group:
            case "true":
                assert told is own
            case "near miss":
                assert told.name == own.siblings[0]
            case "wrong":
                assert told.kind != own.kind
                assert told.name not in own.siblings
                assert own.name not in told.siblings


@pytest.mark.parametrize("kind", KINDS)
def test_activity_is_what_the_rules_say_of_the_whole_context_and_of_the_window_alone(kind: Kind) -> None:
    for planted in planted_sets(0, kind):
        own, told = CONCEPTS[planted.concept], CONCEPTS[planted.told]
        for example, holds in zip(planted.examples.examples, planted.holds, strict=True):
            passage = example.passage
            before = passage.preceding()
            assert passage.place is not None
            assert len(before) == passage.place.start
            whole = (*before, *passage.tokens)
            np.testing.assert_array_equal(example.activations, own.parsed.strengths(whole)[len(before) :])
            np.testing.assert_array_equal(holds, told.parsed.fires(whole)[len(before) :])
            # without strays: what the sentence tells, read in the window alone
            for concept, fires in ((own, example.activations > 0), (told, holds)):
                np.testing.assert_array_equal(rules.parse(concept.rule["rule"]).fires(passage.tokens), fires)


@pytest.mark.parametrize("kind", KINDS)
def test_untrue_explanations_hold_in_some_silent_windows_and_in_no_active_one(kind: Kind) -> None:
    for planted in planted_sets(0, kind):
        truth = np.array([example.activating for example in planted.examples.examples])
        holds = planted.holds.any(axis=1)
        if planted.group == "true":
            np.testing.assert_array_equal(holds, truth)
        else:
            assert not holds[truth].any()
            assert holds[~truth].sum() == 2


def test_windows_of_a_kind_come_from_as_many_documents() -> None:
    for planted in planted_sets(0, "detection"):
        active = [e.passage.place for e in planted.examples.examples if e.activating]
        assert len({place.context for place in active if place is not None}) == 5


def test_a_marked_window_is_right_where_the_explanation_holds_on_every_mark() -> None:
    planted = planted_sets(0, "fuzzing")[0]
    at = int(np.flatnonzero(planted.holds.any(axis=1))[0])
    on = [int(place) for place in np.flatnonzero(planted.holds[at])]
    off = int(np.flatnonzero(~planted.holds[at])[0])
    tokens = planted.examples.examples[at].passage.tokens

    def right(*marks: int) -> bool:
        shown = [Passage(e.passage.tokens, marks=(0,)) for e in planted.examples.examples]
        shown[at] = Passage(tokens, tuple(sorted(marks)))
        return bool(planted.right(shown)[at])

    assert right(*on)
    assert right(on[0])
    assert not right(on[0], off)
    assert not right(off)
    assert right()  # nothing is marked, so anywhere in the window


def test_marks_of_true_explanations_are_right_just_where_the_concept_fires() -> None:
    for planted in planted_sets(0, "fuzzing"):
        right = planted.right(mark(planted.examples, THRESHOLD, seed=1))
        truth = np.array([example.activating for example in planted.examples.examples])
        if planted.group == "true":
            np.testing.assert_array_equal(right, truth)
        else:
            assert not right[truth].any()
