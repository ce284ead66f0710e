"""The lexical baseline: finds planted rules again, judges by them, and never by anything but tokens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import anyio
import numpy as np
import pytest

from harness import rules
from harness.clients import connect
from harness.clients.ask import ask
from harness.clients.protocol import Request
from harness.clients.providers._overlap import overlap
from harness.errors import BadRequest, TaskError
from harness.questions.kinds import Detect, Explain, Fuzz, Judgement, Question, Surprisal
from harness.questions.prompts import load_variant
from harness.values import Example, Explanation, Failure, Passage

CLIENT = connect("lexical/rules")
VARIANTS = {question: load_variant(question, "default") for question in ("explain", "detect", "fuzz")}

MONTHS = [" January", " March", " April", " May", " June", " July"]
FILLERS = [
    f" {first}{last}" for first in ("ba", "ko", "mi", "nu", "re") for last in ("d", "l", "m", "n", "t", "x", "st", "rk")
]
DOERS = [f" {first}{last}er" for first in ("ba", "ko", "mi", "nu") for last in ("d", "l", "m")]
COMMON = [" the", " of", " a", ",", "."]
Fires = Callable[[Sequence[str], int], bool]


def window(generator: np.random.Generator) -> tuple[str, ...]:
    kinds = generator.choice(4, 32, p=[0.4, 0.45, 0.075, 0.075])
    words = {0: FILLERS, 1: COMMON, 2: MONTHS, 3: DOERS}
    return tuple(str(generator.choice(words[int(kind)])) for kind in kinds)


@lru_cache
def planted(fires: Fires, seed: int = 0) -> tuple[list[Example], list[Example]]:
    """Windows in which a planted latent fires, with heavy-tailed strengths, and others."""
    generator = np.random.default_rng(seed)
    inside: list[Example] = []
    outside: list[Example] = []
    while len(inside) < 140 or len(outside) < 100:
        tokens = window(generator)
        held = np.array([fires(tokens, at) for at in range(32)])
        strengths = np.where(held, generator.lognormal(0, 0.5, 32), 0).astype(np.float32)
        (inside if held.any() else outside).append(
            Example(Passage(tokens), strengths, rung=None if held.any() else "random")
        )
        if len(inside) + len(outside) > 40_000:
            break
    return inside[:140], outside[:100]


def answer(question: Question) -> Explanation | Judgement | Failure:
    async def asked() -> Explanation | Judgement | Failure:
        return (await ask(CLIENT, VARIANTS[question.name], question)).answer

    return anyio.run(asked)


def explain(examples: Sequence[Example]) -> Explanation:
    found = answer(Explain(tuple(examples), max(float(e.activations.max()) for e in examples)))
    assert isinstance(found, Explanation)
    return found


def judge(question: Detect | Fuzz) -> Judgement:
    found = answer(question)
    assert isinstance(found, Judgement)
    return found


def f1(rule: rules.Rule, examples: Sequence[Example]) -> float:
    both = either = 0
    for example in examples:
        fired, truth = rule.fires(example.passage.tokens), example.activations > 0
        both += int((fired & truth).sum())
        either += int(fired.sum()) + int(truth.sum())
    return 2 * both / either


ONE: Fires = lambda tokens, at: tokens[at] == " March"  # noqa: E731 - a typed table entry - a table of predicates
FAMILY: Fires = lambda tokens, at: tokens[at] in MONTHS  # noqa: E731 - a typed table entry
PAIR: Fires = lambda tokens, at: tokens[at] == " of" and at > 0 and tokens[at - 1] in FILLERS[:6]  # noqa: E731 - a typed table entry
NEXT: Fires = lambda tokens, at: at > 0 and tokens[at - 1] == " a"  # noqa: E731 - a typed table entry
ENDING: Fires = lambda tokens, at: tokens[at].endswith("er")  # noqa: E731 - a typed table entry
MIXTURE: Fires = lambda tokens, at: tokens[at] == " July" or (tokens[at] == "," and at > 0 and tokens[at - 1] == " the")  # noqa: E731 - a typed table entry


@pytest.mark.parametrize(
    ("fires", "kinds"),
    [
        (ONE, {"tokens"}),
        (FAMILY, {"tokens"}),
        (PAIR, {"after"}),
        (NEXT, {"after"}),
        (ENDING, {"suffix"}),
        (MIXTURE, {"tokens", "after"}),
    ],
)
def test_a_planted_rule_is_found_again(fires: Fires, kinds: set[str]) -> None:
    inside, outside = planted(fires)
    explanation = explain(inside[:40])
    assert explanation.rule is not None
    parts = explanation.rule.get("rules", [explanation.rule])
    assert {part["kind"] for part in parts} == kinds
    rule = rules.parse(explanation.rule)
    assert f1(rule, inside[40:] + outside) > 0.9


def test_the_sentence_tells_the_rule_and_its_coverage() -> None:
    assert explain(planted(ONE)[0][:40]).text == 'the token " March" (100 % of the activations shown)'
    assert explain(planted(NEXT)[0][:40]).text == 'any token after " a" (100 % of the activations shown)'
    assert explain(planted(ENDING)[0][:40]).text == 'tokens that end in "er" (100 % of the activations shown)'
    family = explain(planted(FAMILY)[0][:40]).text
    assert all(f'"{month}"' in family for month in MONTHS)
    assert family.endswith("(100 % of the activations shown)")


def test_coverage_is_the_share_of_marked_tokens_on_which_the_rule_fires() -> None:
    examples = planted(lambda tokens, at: tokens[at] == " May" or (tokens[at] in FILLERS and at == 7))[0][:40]
    explanation = explain(examples)
    assert explanation.rule is not None
    rule = rules.parse(explanation.rule)
    marked = [e.activations > 0.3 * e.activations.max() for e in examples]
    fired = sum(int((rule.fires(e.passage.tokens) & held).sum()) for e, held in zip(examples, marked, strict=True))
    share = round(100 * fired / sum(int(held.sum()) for held in marked))
    assert explanation.text.endswith(f"({share} % of the activations shown)")
    assert share < 100


def test_an_ending_is_not_made_of_a_few_tokens() -> None:
    months = {" September", " October", " November", " December"}
    windows = [
        Example(Passage((" in", " in", month, " in")), np.array([0, 0, 1, 0], np.float32))
        for month in sorted(months) * 5
    ]
    assert explain(windows).rule == {"kind": "tokens", "tokens": [" December", " November", " October", " September"]}


def test_tokens_are_written_as_the_prompts_show_them() -> None:
    windows = [Example(Passage(("x", "\n\n", '"<<')), np.array([0, 1, 1], np.float32))] * 3
    assert explain(windows).text == r'the tokens "\n\n" and "\"\<\<" (100 % of the activations shown)'


def test_faint_activations_count_neither_way() -> None:
    windows = [Example(Passage((" May", " x", " y")), np.array([1, 0.1, 0], np.float32))] * 10
    assert explain(windows).rule == {"kind": "tokens", "tokens": [" May"]}


def test_activations_without_text_have_no_rule() -> None:
    explanation = explain([Example(Passage(("", "a")), np.array([1, 0], np.float32))])
    assert explanation == Explanation("nothing that the tokens shown have in common")


def test_an_explanation_is_quick() -> None:
    question = Explain(tuple(planted(FAMILY)[0][:40]), 9.0)
    client_request = Request((), 1, question=question)
    anyio.run(CLIENT.generate, client_request)
    start = time.process_time()
    for _ in range(10):
        anyio.run(CLIENT.generate, client_request)
    assert (time.process_time() - start) / 10 < 0.05  # some 5 ms; the rest is for a busy machine


def test_detection_asks_whether_the_rule_fires_anywhere() -> None:
    rule = {"kind": "after", "token": " of", "previous": [" cup"]}
    passages = (Passage((" a", " cup", " of")), Passage((" of", " a", " cup")), Passage((" king", " of")))
    assert judge(Detect(Explanation("x", rule), passages)) == Judgement((1, 0, 0), (1.0, 0.0, 0.0))


def test_fuzzing_asks_whether_the_rule_fires_on_every_marked_token() -> None:
    rule = {"kind": "tokens", "tokens": [" May", " June"]}
    tokens = (" in", " May", " or", " June")
    passages = tuple(Passage(tokens, marks) for marks in ((1,), (1, 3), (1, 2), (0,), ()))
    assert judge(Fuzz(Explanation("x", rule), passages)).labels == (1, 1, 0, 0, 0)


def test_a_rule_is_judged_on_the_window_alone() -> None:
    rule = {"kind": "after", "token": " of", "previous": [" cup"]}

    class Source:
        def pieces(self, context: int, start: int, stop: int) -> tuple[str, ...]:
            raise AssertionError("the judge looked outside the window")

    passage = Passage((" of", " tea"), source=Source())
    assert judge(Detect(Explanation("x", rule), (passage,))).labels == (0,)


def test_a_rule_beats_a_wrong_one_and_the_withheld_explanation() -> None:
    inside, outside = planted(FAMILY)
    scored = inside[40:140] + outside
    truth = np.array([example.activating for example in scored])
    right, wrong = explain(inside[:40]), explain(planted(ENDING)[0][:40])

    def accuracy(told: Explanation | None) -> float:
        batches = [scored[at : at + 5] for at in range(0, len(scored), 5)]
        labels = [judge(Detect(told, tuple(e.passage for e in batch))).labels for batch in batches]
        return float((np.concatenate(labels) == truth).mean())

    assert accuracy(right) == 1.0
    assert abs(accuracy(wrong) - 0.5) < 0.15
    assert abs(accuracy(None) - 0.5) < 0.15


def test_a_withheld_explanation_is_a_fair_coin_that_does_not_change() -> None:
    passages = tuple(Passage((f"text {number}",)) for number in range(2000))
    first = judge(Detect(None, passages))
    assert abs(sum(first.labels) - 1000) < 4 * math.sqrt(500)
    assert set(first.probabilities) == {0.5}
    assert judge(Detect(None, passages[::-1])).labels[::-1] == first.labels


def test_words_without_a_rule_are_judged_by_what_they_share_with_the_passage() -> None:
    passages = (
        Passage((" we", " had", " heavy", " rain", "s", " in", " the", " night")),
        Passage((" the", " committee", " meets", " often")),
        Passage((" a", " rain", "coat")),
    )
    told = Explanation('Words related to rain and storms, such as " heavy"')
    found = judge(Detect(told, passages))
    assert found.labels[:2] == (1, 0)
    assert found.probabilities[0] is not None
    assert found.probabilities[0] > 0.7
    assert judge(Detect(Explanation("Words related to of the"), passages)).labels == (0, 0, 0)


def test_marks_are_judged_by_the_words_they_stand_in() -> None:
    tokens = (" we", " had", " rain", "s", " at", " night")
    passages = tuple(Passage(tokens, marks) for marks in ((2, 3), (1,), (2, 4), (5,)))
    assert judge(Fuzz(Explanation("words for rain"), passages)).labels == (1, 0, 0, 0)
    assert judge(Fuzz(Explanation('the token " at"'), (Passage(tokens, (4,)), Passage(tokens, (5,))))).labels == (1, 0)


def test_a_quotation_is_no_part_of_a_longer_word() -> None:
    held, not_held = overlap('the word "of"', (Passage((" cup", " of")), Passage((" often",))), marked=False)
    assert held > 0.5 > not_held


def test_probabilities_lie_in_their_range() -> None:
    passages = tuple(Passage((" rain", " rain"), marks) for marks in ((), (0,), (0, 1)))
    for told in ("rain", "", "the of", "snow rain ice", '"', '""'):
        for marked in (False, True):
            assert all(0 < chance < 1 for chance in overlap(told, passages, marked=marked))


def test_the_question_is_in_the_key_and_nothing_else_of_the_request() -> None:
    question = Detect(Explanation("x"), (Passage(("a",)),))
    other = Detect(Explanation("y"), (Passage(("a",)),))
    ask_one = Request((), 1, question=question)
    assert CLIENT.wire(ask_one) == CLIENT.wire(Request((), 9, temperature=0.5, seed=3, question=question))
    assert CLIENT.wire(ask_one) != CLIENT.wire(Request((), 1, question=other))
    assert CLIENT.wire(ask_one) != CLIENT.wire(Request((), 1, top_logprobs=5, question=question))


def test_it_says_that_it_is_no_language_model() -> None:
    assert CLIENT.capabilities.model_free
    assert CLIENT.name == "lexical/rules"


def test_mistakes_are_told() -> None:
    with pytest.raises(TaskError, match='no model "lexical/ngrams"; the lexical baseline is "lexical/rules"'):
        connect("lexical/ngrams")
    with pytest.raises(TaskError, match="temperature"):
        connect("lexical/rules", {"temperature": 1})
    with pytest.raises(BadRequest, match="typed questions"):
        anyio.run(CLIENT.generate, Request((), 1))
    with pytest.raises(BadRequest, match="how likely a text is"):
        anyio.run(CLIENT.generate, Request((), 0, continuation="a", question=Surprisal(None)))
    found = answer(Detect(Explanation("x", {"kind": "nonsense"}), (Passage(("a",)),)))
    assert isinstance(found, Failure)
    assert found.status == "provider_error"
