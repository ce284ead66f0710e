"""What clients without a language model answer where strengths or an intruder are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from harness.clients import Client, connect
from harness.clients.ask import ask
from harness.questions.kinds import Choice, Intruder, Simulate, Simulation
from harness.questions.prompts import load_variant
from harness.resources import fixture
from harness.rules import load_concepts
from harness.values import Explanation, Passage

pytestmark = pytest.mark.anyio
MONTHS = next(concept for concept in load_concepts(fixture("concepts.json")).concepts if concept.name == "months")
TOLD = Explanation(MONTHS.sentences[0])
SIMULATE, INTRUDER = load_variant("simulate", "default"), load_variant("intruder", "default")


def _window(number: int, *, month: bool) -> Passage:
    word = " March" if month else " stone"
    return Passage((f" plain{number}", " words", word, " and", " more"))


def _questions(count: int) -> list[tuple[Intruder, int]]:
    return [
        (Intruder(tuple(_window(10 * n + at, month=at != n % 5) for at in range(5))), n % 5 + 1) for n in range(count)
    ]


async def _found(client: Client, count: int) -> float:
    right = []
    for question, place in _questions(count):
        answer = (await ask(client, INTRUDER, question)).answer
        assert isinstance(answer, Choice)
        right.append(answer.number == place)
    return float(np.mean(right))


@pytest.mark.parametrize("name", ["truth/judge", "lexical/rules"])
async def test_the_intruder_is_found_where_only_it_lacks_what_the_others_share(name: str) -> None:
    assert await _found(connect(name), 20) == 1.0


async def test_the_truth_misses_intruders_at_its_error_rate() -> None:
    assert await _found(connect("truth/judge", {"false_positive": 0.4}), 400) == pytest.approx(0.6, abs=0.08)


async def test_the_truth_tells_the_concepts_tokens_and_errs_at_its_rates() -> None:
    firing, silent = _window(0, month=True), _window(0, month=False)

    perfect, misses, raises = (
        connect("truth/judge", settings) for settings in ({}, {"false_negative": 0.3}, {"false_positive": 0.3})
    )

    async def strengths(client: Client, passage: Passage) -> tuple[float, ...]:
        answer = (await ask(client, SIMULATE, Simulate(TOLD, passage))).answer
        assert isinstance(answer, Simulation)
        return answer.strengths

    assert await strengths(perfect, firing) == (0, 0, 10, 0, 0)
    assert await strengths(perfect, silent) == (0, 0, 0, 0, 0)
    missed = [await strengths(misses, _window(n, month=True)) == (0.0,) * 5 for n in range(200)]
    raised = [sum(await strengths(raises, _window(n, month=False))) == 10 for n in range(200)]
    assert np.mean(missed) == pytest.approx(0.3, abs=0.1)
    assert np.mean(raised) == pytest.approx(0.3, abs=0.1)


async def test_the_lexical_baseline_tells_its_rules_tokens() -> None:
    rule = Explanation("x", {"kind": "tokens", "tokens": [" March"]})
    answer = (await ask(connect("lexical/rules"), SIMULATE, Simulate(rule, _window(0, month=True)))).answer
    assert isinstance(answer, Simulation)
    assert answer.strengths == (0, 0, 10, 0, 0)
