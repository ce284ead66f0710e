"""Reply formats: parse inverts format, messy replies, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.questions.kinds import Detect, Explain, Fuzz, Judgement, Sentences, Surprisal
from harness.questions.render import one_line
from harness.questions.replies import FORMATS
from harness.values import Example, Explanation, Failure, Passage

EXPLAIN = Explain((Example(Passage(("a",)), np.array([1.0], np.float32)),), 1.0)
words, labels = FORMATS["explanation"], FORMATS["labels"]
sentences = st.text(min_size=1).map(one_line).filter(lambda text: text.strip(" .…*_"))
nasty = st.lists(
    st.sampled_from(
        ["[explanation]:", "Explanation:", "**", "\n", "\n\n", " word ", "[rule]:", "{", "```", "`", "[", "1"]
    )
).map("".join)
scalars = st.none() | st.booleans() | st.integers() | st.text()
rules = st.dictionaries(st.text(), scalars | st.lists(scalars))


def detect(count: int) -> Detect:
    return Detect(Explanation("months"), tuple(Passage((str(number),)) for number in range(count)))


def said(text: str) -> str:
    answer = words.parse(EXPLAIN, text, None)
    assert isinstance(answer, Explanation)
    return answer.text


@given(sentences, st.none() | rules)
def test_an_explanation_survives_being_written_and_read(text: str, rule: dict[str, Any] | None) -> None:
    answer = Explanation(text, rule)
    assert words.parse(EXPLAIN, words.format(answer, EXPLAIN), None, rules=True) == answer


@given(st.lists(st.integers(0, 1), min_size=1, max_size=30))
def test_labels_survive_being_written_and_read(values: list[int]) -> None:
    for question in (detect(len(values)), Fuzz(None, detect(len(values)).passages)):
        answer = Judgement(tuple(values), (None,) * len(values))
        assert labels.parse(question, labels.format(answer, question), None) == answer


@given(st.lists(st.text(min_size=1).filter(lambda text: "\n" not in text), min_size=1).map(tuple))
def test_sentences_survive_being_written_and_read(texts: tuple[str, ...]) -> None:
    lines, question = FORMATS["sentences"], Surprisal(None)
    assert lines.parse(question, lines.format(Sentences(texts), question), None) == Sentences(texts)
    assert isinstance(lines.parse(question, "\n\n", None), Failure)


@given(st.text() | nasty, st.integers(1, 5))
def test_any_text_gives_an_answer_or_a_failure(text: str, count: int) -> None:
    assert isinstance(words.parse(EXPLAIN, text, None, rules=True), Explanation | Failure)
    assert isinstance(labels.parse(detect(count), text, None), Judgement | Failure)


@pytest.mark.parametrize(
    "text",
    [
        "[explanation]: names of months",
        "[Explanation]: names of months\n",
        "[interpretation]: names of months",
        "[EXPLANATION] : names of months",
        "**[explanation]:** names of months",
        "**[explanation]**: names of months",
        "**[explanation]: names of months**",
        "*[explanation]: names of months*",
        "> [explanation]: names of months",
        "### [explanation]: names of months",
        "Explanation: names of months",
        "**Explanation:** names of months",
        "Final explanation: names of months",
        "```\n[explanation]: names of months\n```",
        "```\n[explanation]:\nnames of months\n```",
        "[explanation]:\n\nnames of months",
        "[explanation]:\nnames\nof months",
        "[explanation]: names\n  of months\n\nLet me know whether more is needed.",
        "I see May and June.\n\n[explanation]: names of months",
        "[explanation]: names\n\nNo, better:\n[explanation]: names of months",
        "So in short, [explanation]: names of months",
        "Explanation: the first\n[explanation]: names of months",
        "<think>[explanation]: names</think>[explanation]: names of months",
        '[explanation]: names of months\n[rule]: {"kind": "tokens"}',
    ],
)
def test_the_last_marked_paragraph_is_the_explanation(text: str) -> None:
    assert said(text) == "names of months"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "names of months",
        "[explanation]:",
        "[explanation]: ...",
        "[explanation]:\n\n```\n```",
        "**[explanation]:**",
        "[explanation] names",
    ],
)
def test_without_words_after_a_marker_there_is_no_explanation(text: str) -> None:
    answer = words.parse(EXPLAIN, text, None)
    assert isinstance(answer, Failure)
    assert answer.status == "unparsable"


def test_a_long_explanation_is_kept_whole_and_marks_in_it_too() -> None:
    text = "x " * 20_000 + "**<<y>>**"
    assert said(f"[explanation]: {text}") == text


def test_a_rule_is_read_only_where_it_may_be() -> None:
    text = '[explanation]: months\n[rule]: {"kind": "tokens", "tokens": [" May"]}'
    rule = {"kind": "tokens", "tokens": [" May"]}
    assert words.parse(EXPLAIN, text, None, rules=True) == Explanation("months", rule)
    assert words.parse(EXPLAIN, text, None) == Explanation("months")
    assert words.parse(EXPLAIN, "[explanation]: months\n[rule]: {nonsense", None, rules=True) == Explanation("months")
    assert words.parse(EXPLAIN, "[explanation]: months\n[rule]: [1]", None, rules=True) == Explanation("months")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 0, 1]", "the reply has 3 labels where 5 are needed"),
        ("[1]", "the reply has 1 label where 5 are needed"),
        ("no idea", "the reply has no labels where 5 are needed"),
        ("", "the reply has no labels where 5 are needed"),
    ],
)
def test_a_failure_says_how_many_labels_there_were(text: str, message: str) -> None:
    assert labels.parse(detect(5), text, None) == Failure("unparsable", message)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t assist with that request.",
        "I cannot comply with this request.",
        "I apologize, but I'm not able to provide labels for this material.",
        "As an AI, I am unable to engage with this content.",
    ],
)
def test_a_clear_refusal_in_place_of_an_answer_is_a_refusal(text: str) -> None:
    for answer in (labels.parse(detect(2), text, None), words.parse(EXPLAIN, text, None)):
        assert isinstance(answer, Failure)
        assert answer.status == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "I can't find any pattern that these examples share.",
        "Sorry, the passages have no months.",
        "I cannot tell.",
        "The passages say that they can't help it.",
    ],
)
def test_what_is_merely_no_answer_is_not_a_refusal(text: str) -> None:
    for answer in (labels.parse(detect(2), text, None), words.parse(EXPLAIN, text, None)):
        assert isinstance(answer, Failure)
        assert answer.status == "unparsable"


def test_an_apology_before_an_answer_is_no_refusal() -> None:
    text = "I'm sorry, I can't help but guess: [1, 0]"
    assert labels.parse(detect(2), text, None) == Judgement((1, 0), (None, None))


def test_an_answer_to_another_question_is_not_written() -> None:
    with pytest.raises(ValueError, match="5 labels"):
        labels.format(Judgement((1, 0), (None, None)), detect(5))
    with pytest.raises(ValueError, match="explanation"):
        words.format(Judgement((1,), (None,)), EXPLAIN)
