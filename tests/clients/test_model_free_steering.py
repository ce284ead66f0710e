"""Interventions answered without a language model: what rose is quoted, and the passage that holds more is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import anyio
import pytest

from harness.clients import connect
from harness.clients.ask import ask
from harness.clients.protocol import Request
from harness.errors import BadRequest
from harness.questions.kinds import Amplified, Choice, Question, Rises, Steered
from harness.questions.messages import Message
from harness.questions.prompts import load_variant
from harness.values import Explanation, Failure, Passage, Rise

JULY = Explanation('more of " July", " June"')
RULE = Explanation("summer", {"kind": "words", "words": ["July", "June"]})
PLAIN = Explanation("Boats and ships.")


def answer(model: str, question: Question) -> object:
    async def asked() -> object:
        return (await ask(connect(model, None), load_variant(question.name, "default"), question)).answer

    return anyio.run(asked)


def pair(first: str, second: str, told: Explanation | None = JULY, before: str = "We came in") -> Steered:
    return Steered(told, (Passage((before, first), (1,)), Passage((before, second), (1,))))


def test_the_tokens_that_rose_most_over_all_texts_are_quoted() -> None:
    rises = (
        Rise("a", ((" July", 0.5), (" May", 0.2), ("\n", 0.9))),
        Rise("b", ((" June", 0.4), (" May", 0.45), (" x", 0.01))),
    )
    assert answer("lexical/rules", Rises(rises)) == Explanation('more of " May", " July", " June"')
    nothing = answer("lexical/rules", Rises((Rise("a", ()),)))
    assert nothing == Explanation("nothing that the tokens shown have in common")


@pytest.mark.parametrize("told", [JULY, RULE])
def test_the_passage_that_holds_more_of_it_is_chosen_with_its_probability(told: Explanation) -> None:
    for texts, number in (((" a hurry", " July"), 2), ((" June and July", " July"), 1)):
        found = answer("lexical/rules", pair(*texts, told))
        assert isinstance(found, Choice)
        assert found.number == number
        assert found.probabilities is not None
        assert found.probabilities[number - 1] > 0.5
        assert math.isclose(sum(found.probabilities), 1)


def test_what_stands_before_decides_nothing() -> None:
    assert answer("lexical/rules", pair(" a hurry", " July", before="In July, July, July")) == answer(
        "lexical/rules", pair(" a hurry", " July")
    )


def test_words_without_quotations_count_by_their_stems() -> None:
    found = answer("lexical/rules", pair(" the ship and a boat", " the house", PLAIN))
    assert isinstance(found, Choice)
    assert found.number == 1


@pytest.mark.parametrize("told", [None, JULY, PLAIN])
@pytest.mark.parametrize("model", ["lexical/rules", "truth/judge"])
def test_a_coin_decides_where_nothing_tells_the_passages_apart(told: Explanation | None, model: str) -> None:
    if model == "truth/judge":
        told = told and RULE
    chosen: list[int] = []
    for number in range(200):
        found = answer(model, pair(f" {number} miles", f" {number} days", told))
        assert isinstance(found, Choice)
        chosen.append(found.number)
        assert answer(model, pair(f" {number} miles", f" {number} days", told)) == found
    assert 70 < chosen.count(1) < 130


def test_the_truth_judge_goes_by_the_rule_and_errs_as_often_as_it_is_told() -> None:
    def right(settings: dict[str, float]) -> float:
        client, variant = connect("truth/judge", settings), load_variant("steered", "default")

        async def asked() -> Sequence[object]:
            return [
                (await ask(client, variant, pair(f" {number} miles", f" {number} July", RULE))).answer
                for number in range(300)
            ]

        return sum(found == Choice(2) for found in anyio.run(asked)) / 300

    assert right({}) == 1
    assert right({"false_positive": 0.3}) == pytest.approx(0.7, abs=0.08)
    assert isinstance(answer("truth/judge", pair(" a", " b", PLAIN)), Failure)


@pytest.mark.parametrize("model", ["lexical/rules", "truth/judge"])
def test_neither_tells_how_likely_words_are(model: str) -> None:
    request = Request((Message("user", "x"),), 1, question=Amplified(Passage(("a",))))
    with pytest.raises(BadRequest, match="has no language model to tell how likely a text is"):
        anyio.run(connect(model, None).generate, request)
