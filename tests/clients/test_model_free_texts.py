"""Texts by the clients without a language model: true to the rule they are told, the same when asked again."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import anyio
import numpy as np
import pytest

from harness.clients import connect
from harness.clients.ask import ask
from harness.clients.providers._overlap import telling
from harness.clients.providers._writing import from_phrases, library, peak, put_in, spelled
from harness.questions.kinds import Generate, Texts
from harness.questions.prompts import load_variant
from harness.resources import fixture
from harness.rules import Text, load_concepts, parse
from harness.values import Explanation, Failure

VARIANT = load_variant("generate", "default")
CONCEPTS = {concept.name: concept for concept in load_concepts(fixture("concepts.json")).concepts}
TOKENS = {"kind": "tokens", "tokens": [" May", " the"]}


def answer(model: str, question: Generate, *, sample: int = 0, **settings: Any) -> Texts | Failure:
    client = connect(model, settings)
    found = anyio.run(partial(ask, client, VARIANT, question, sample=sample)).answer
    assert isinstance(found, Texts | Failure)
    return found


def written(model: str, question: Generate, *, sample: int = 0, **settings: Any) -> tuple[str, ...]:
    found = answer(model, question, sample=sample, **settings)
    assert isinstance(found, Texts)
    assert len(found.texts) == question.count
    return found.texts


def truth(name: str, count: int = 12, *, activating: bool = True, **more: Any) -> tuple[str, ...]:
    told = Explanation(CONCEPTS[name].sentences[0])
    return written("truth/writer", Generate(told, count, activating), **more)


@pytest.mark.parametrize("name", sorted(CONCEPTS))
def test_the_truth_writes_texts_in_which_the_concept_is_or_is_not(name: str) -> None:
    rule = CONCEPTS[name].parsed
    for activating in (True, False):
        texts = truth(name, 6, activating=activating)
        # read as one piece, not cut into words: whatever a piece is, the rule joins it again
        assert [bool(rule.fires(["", text]).any()) for text in texts] == [activating] * 6


def test_other_samples_are_other_texts_and_the_same_question_the_same_ones() -> None:
    assert truth("months") == truth("months")
    assert set(truth("months")) != set(truth("months", sample=1))
    assert len(set(truth("months", 40))) == 40
    told = Explanation("whatever", TOKENS)
    first = written("lexical/rules", Generate(told, 5, activating=True))
    assert first == written("lexical/rules", Generate(told, 5, activating=True))
    assert first != written("lexical/rules", Generate(told, 5, activating=True), sample=1)


def test_errors_put_a_text_of_the_other_kind_as_often_as_they_are_set() -> None:
    rule = CONCEPTS["months"].parsed
    settings = {"false_negative": 0.3, "false_positive": 0.1}
    for activating, rate in ((True, 0.3), (False, 0.1)):
        texts = truth("months", 100, activating=activating, **settings)
        wrong = [bool(peak(rule, text)) != activating for text in texts]
        assert abs(np.mean(wrong) - rate) < 3 * (rate * (1 - rate) / 100) ** 0.5


def test_an_unknown_explanation_is_answered_in_prose_and_a_withheld_one_by_any_texts() -> None:
    unknown = answer("truth/writer", Generate(Explanation("Who knows what."), 3, activating=True))
    assert isinstance(unknown, Failure)
    assert unknown.status == "unparsable"
    never = Explanation("x", {"kind": "tokens", "tokens": ["two words"]})
    assert isinstance(answer("truth/writer", Generate(never, 3, activating=True)), Failure)
    sides = [written("truth/writer", Generate(None, 40, activating=side)) for side in (True, False)]
    rates = [np.mean([bool(peak(CONCEPTS["adverbs"].parsed, text)) for text in texts]) for texts in sides]
    assert abs(rates[0] - rates[1]) < 0.3


def test_refusals_and_malformed_replies_come_as_often_as_they_are_set() -> None:
    question = Generate(Explanation(CONCEPTS["months"].sentences[0]), 2, activating=True)
    found = [answer("truth/writer", question, sample=n, refused=0.5) for n in range(60)]
    assert 15 < sum(isinstance(each, Failure) and each.status == "refused" for each in found) < 45


def test_a_rule_that_the_explanation_carries_is_written_by() -> None:
    told = Explanation("whatever", TOKENS)
    rule = parse(TOKENS)
    for model in ("truth/writer", "lexical/rules"):
        for activating in (True, False):
            texts = written(model, Generate(told, 10, activating))
            assert [bool(peak(rule, text)) for text in texts] == [activating] * 10, model


@pytest.mark.parametrize(
    ("rule", "phrases"),
    [
        (TOKENS, [" May", " the"]),
        ({"kind": "after", "previous": [" in"], "token": " May"}, [" in May"]),
        ({"kind": "after", "previous": [" in", " on"]}, [" in thing", " on thing"]),
        ({"kind": "suffix", "suffixes": ["ber"]}, ["ber"]),
        ({"kind": "any", "rules": [TOKENS, {"kind": "words", "words": ["june"]}, TOKENS]}, [" May", " the", " june"]),
        ({"kind": "graded", "seed": "s", "rule": {"kind": "words", "words": ["x"]}}, [" x"]),
        ({"kind": "capitalised"}, []),
    ],
)
def test_a_rule_spells_out_its_phrases_each_once(rule: dict[str, Any], phrases: list[str]) -> None:
    assert spelled(rule) == phrases
    made = parse(rule)
    for seed, phrase in enumerate(phrases if rule["kind"] != "suffix" else ["ber"]):
        assert peak(made, put_in("We met in a small town and went away.", phrase, made, Random(seed)))


def test_words_of_an_explanation_are_put_in_and_taken_out() -> None:
    told = Explanation("Names of boats")
    assert telling(told.text) == [" boats"]
    assert telling('The word "of" before what it holds') == [" of"]
    assert telling('The ending "-ing" of "going"') == ["-ing", " going"]
    firing = written("lexical/rules", Generate(told, 10, activating=True))
    silent = written("lexical/rules", Generate(told, 10, activating=False))
    assert all(" boats" in text for text in firing)
    assert not any("boats" in text for text in silent)
    the = Explanation('the word "the"')
    assert not any(" the " in text for text in written("lexical/rules", Generate(the, 20, activating=False)))
    assert from_phrases([], None, Random(0), activating=True) == from_phrases([], None, Random(0), activating=False)


def test_the_library_reads_each_stretch_as_if_nothing_stood_before() -> None:
    shelf = library(fixture("text", "heldout.jsonl"))
    rule = CONCEPTS["negated"].parsed
    found = shelf.strengths(rule)
    assert len(found) == len(shelf.stretches) == len(set(shelf.stretches))
    for at in range(0, len(found), 500):
        assert found[at] == peak(rule, shelf.stretches[at])
    assert found.any()
    assert isinstance(shelf.text, Text)
