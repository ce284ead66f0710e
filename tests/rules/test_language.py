"""Each kind of condition by hand, causality, and independence of how a tokenizer splits words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.resources import fixture
from harness.rules import Concept, Rule, f1, load_concepts, parse, recovered

CONCEPTS = load_concepts(fixture("concepts.json")).concepts
WORDS = st.sampled_from([" bank", " river", " Anna", " red", ".", "?", " unpaid", " because", " angry", " not", " if"])
QUESTION = {"kind": "words", "words": ["?"]}
FRAGMENTS = st.sampled_from(
    ["", " the", " bank", "er", "s", ".", "?", '"', ' "', " (", ")", "\n", ",", ":", " 1", "9", " Anna", " if", " not",
     " red", " river", " money", "March", " sing", "ing", " because", " angry", " three", " miles"]
)  # fmt: skip


def fired(data: dict[str, Any], pieces: list[str]) -> list[str]:
    """The pieces on which the rule fires."""
    return [piece for piece, fires in zip(pieces, parse(data).fires(pieces), strict=True) if fires]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"kind": "words", "words": ["bank", "ANNA"]}, [" Anna", "k"]),
        ({"kind": "words", "words": ["anna"], "case": True}, []),
        ({"kind": "ending", "endings": ["nk", "na"], "least": 4}, [" Anna", "k"]),
        ({"kind": "ending", "endings": ["nk", "na"], "but": ["anna"]}, ["k"]),
        ({"kind": "beginning", "beginnings": ["ban"], "least": 4}, ["k"]),
        ({"kind": "number"}, [" 1", "9"]),
        ({"kind": "capitalised"}, ["Is", " Anna", " No"]),
        ({"kind": "position", "first": 1, "last": 1}, [" Anna", " see"]),
        ({"kind": "position", "first": 0, "last": 0, "within": "document"}, ["Is"]),
        ({"kind": "inside", "marks": "brackets"}, [" 1", "9"]),
        ({"kind": "previous", "rule": {"kind": "words", "words": ["the"]}}, [" ban", "k"]),
        ({"kind": "previous", "rule": {"kind": "words", "words": ["the"]}, "distance": 2}, ["."]),
        ({"kind": "earlier", "rule": {"kind": "words", "words": ["see"]}, "within": "sentence"},
         [" the", " ban", "k", "."]),
        ({"kind": "earlier", "rule": {"kind": "words", "words": ["see"]}, "within": 1}, [" the"]),
        ({"kind": "earlier", "rule": {"kind": "capitalised"}, "within": "document", "count": 3},
         [" see", " the", " ban", "k", "."]),
        ({"kind": "all", "rules": [{"kind": "after_sentence", "rule": QUESTION}, {"kind": "wordlike"}]},
         [" No", " see", " the", " ban", "k"]),
        ({"kind": "all", "rules": [{"kind": "wordlike"}, {"kind": "not", "rule": {"kind": "capitalised"}}]},
         [" 1", "9", " see", " the", " ban", "k"]),
        ({"kind": "any", "rules": [{"kind": "words", "words": ["see"]}, {"kind": "tokens", "tokens": ["k"]}]},
         [" see", "k"]),
        ({"kind": "tokens", "tokens": [" the", "Anna"]}, [" the"]),
        ({"kind": "suffix", "suffixes": ["nna", "e"]}, [" Anna", " see", " the"]),
        ({"kind": "after", "token": "9", "previous": [" 1"]}, ["9"]),
        ({"kind": "after", "token": "9", "previous": ["1"]}, []),
    ],
)  # fmt: skip
def test_a_condition_holds_where_it_says(data: dict[str, Any], expected: list[str]) -> None:
    pieces = ["", "Is", " Anna", " (", " 1", "9", ")", "?", " No", " see", " the", " ban", "k", "."]
    assert fired(data, pieces) == expected


def test_a_repeated_word_is_one_that_the_document_held_before() -> None:
    pieces = [" Ash", "ford", " and", " ash", "ford", "", " Ash", "ford"]
    assert parse({"kind": "repeated"}).fires(pieces).tolist() == [False] * 4 + [True] + [False] * 3


def test_state_ends_with_the_document() -> None:
    earlier = {"kind": "earlier", "rule": {"kind": "words", "words": ["a"]}, "within": "document"}
    assert fired(earlier, ["a", " b", "", "c"]) == [" b"]
    assert fired({"kind": "after_sentence", "rule": QUESTION}, ["a", "?", "", "B"]) == []
    assert fired({"kind": "inside", "marks": "quotes"}, ['"', "a", "", "b"]) == ["a"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({}, 'needs a "kind"'),
        ({"kind": "colour"}, "'colour'"),
        ({"kind": "words", "words": []}, "words"),
        ({"kind": "words", "words": ["a"], "wrds": 1}, "wrds"),
        ({"kind": "all", "rules": [{"kind": "ending", "ending": ["x"]}]}, "all.rules.0.ending"),
        ({"kind": "not", "rule": {"kind": "graded", "rule": {"kind": "number"}, "seed": ""}}, "graded"),
        ({"kind": "earlier", "rule": {"kind": "number"}, "within": "page"}, "within"),
        ("months", "not a rule"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_place(data: Any, told: str) -> None:
    with pytest.raises(ValueError, match="not a rule") as caught:
        parse(data)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CONCEPTS), st.lists(FRAGMENTS, max_size=24), st.lists(FRAGMENTS, max_size=6), st.integers(0, 24))
def test_no_concept_looks_ahead(concept: Concept, pieces: list[str], others: list[str], cut: int) -> None:
    before, after = concept.parsed.strengths(pieces), concept.parsed.strengths(pieces[:cut] + others)
    shared = min(cut, len(pieces))
    assert np.array_equal(before[:shared], after[:shared])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CONCEPTS), st.data())
def test_a_word_is_as_strong_however_it_is_split(concept: Concept, data: st.DataObject) -> None:
    words = data.draw(st.lists(WORDS))
    pieces: list[str] = []
    last: list[int] = []
    for word in words:
        cut = data.draw(st.integers(1, len(word)))
        pieces += [part for part in (word[:cut], word[cut:]) if part]
        last.append(len(pieces) - 1)
    assert np.array_equal(concept.parsed.strengths(words), concept.parsed.strengths(pieces)[last])


def naive_f1(rule: Rule, other: Rule, contexts: list[list[str]]) -> float:
    from sklearn.metrics import f1_score

    ours = np.concatenate([rule.fires(context) for context in contexts])
    theirs = np.concatenate([other.fires(context) for context in contexts])
    return float(f1_score(theirs, ours))


def test_f1_is_that_of_all_positions_together() -> None:
    contexts = [[" red", " bank", ".", " red"], [" river", " red", " 3"], [" blue"]]
    rule = parse({"kind": "words", "words": ["red"]})
    other = parse({"kind": "any", "rules": [{"kind": "words", "words": ["red", "blue"]}, {"kind": "number"}]})
    assert f1(rule, other, contexts) == pytest.approx(naive_f1(rule, other, contexts)) == pytest.approx(0.75)
    assert not recovered(rule, other, contexts)
    assert recovered(rule, rule, contexts)


def test_nothing_is_recovered_where_neither_fires() -> None:
    rule = parse({"kind": "words", "words": ["red"]})
    assert np.isnan(f1(rule, rule, [[" blue"]]))
    assert not recovered(rule, rule, [[" blue"]])
