"""Windows as text: marks, escaping and back, strengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.questions.render import (
    activating_positions,
    escape,
    lay_out,
    one_line,
    parse_marked,
    quote,
    strengths,
    unescape,
)
from harness.values import Example, Passage

# characters that could be taken for marks or breaks come up often
nasty = st.text(
    st.one_of(st.sampled_from('<>\\\n\r\t"n x\u2028\u202e\udcff\x1b'), st.characters(codec=None)), max_size=8
)
windows = st.lists(nasty, min_size=1, max_size=8)


def example(tokens: list[str], activations: list[float]) -> Example:
    return Example(Passage(tuple(tokens)), np.array(activations, np.float32))


@given(nasty)
def test_unescape_inverts_escape(text: str) -> None:
    assert unescape(escape(text)) == text


@given(nasty)
def test_an_escaped_text_is_one_line_without_marks_that_can_be_sent(text: str) -> None:
    escaped = escape(text)
    assert len(escaped.splitlines()) <= 1
    assert "<<" not in escaped
    assert ">>" not in escaped
    escaped.encode("utf-8")
    assert not any(ord(char) < 32 for char in escaped)


@given(windows, st.data())
def test_marks_and_text_can_be_read_back_from_a_laid_out_window(tokens: list[str], data: st.DataObject) -> None:
    marks = sorted(data.draw(st.sets(st.integers(0, len(tokens) - 1))))
    laid = lay_out(tokens, marks)
    parts, marked = parse_marked(laid.text)
    assert "".join(parts) == "".join(tokens)
    if all(tokens):
        assert "".join(parts[at] for at in marked) == "".join(tokens[mark] for mark in marks)


@given(windows, st.data())
def test_bounds_say_where_each_token_stands(tokens: list[str], data: st.DataObject) -> None:
    marks = sorted(data.draw(st.sets(st.integers(0, len(tokens) - 1))))
    laid = lay_out(tokens, marks)
    assert [unescape(laid.text[start:stop]) for start, stop in laid.bounds] == tokens


def test_consecutive_marked_tokens_share_one_pair() -> None:
    assert lay_out(["a", " b", " c", " d", " e"], [1, 2, 4]).text == "a<< b c>> d<< e>>"


def test_tokens_without_text_do_not_part_a_run_and_pass_their_mark_on() -> None:
    assert lay_out(["a", "b", "", "c", "d"], [1, 3]).text == "a<<bc>>d"
    assert lay_out(["a", "", "é", "d"], [1]).text == "a<<é>>d"
    assert lay_out(["a", "", ""], [1]).text == "a"


@pytest.mark.parametrize(
    ("tokens", "marks", "shown"),
    [
        (["x << y"], [], r"x \<\< y"),
        (["x < y > z"], [], "x < y > z"),
        (["a<", "<b"], [], r"a\<\<b"),
        (["a<", "b"], [1], r"a\<<<b>>"),
        (["a", "b", "> c"], [1], r"a<<b>>\> c"),
        (["cout << x;\nreturn"], [], r"cout \<\< x;\nreturn"),
        ([r"C:\new"], [], r"C:\\new"),
        (["a\u202eb", "\x1b[31m"], [], r"a\u202eb\u001b[31m"),
        (["\udce2\udc80"], [], r"\xe2\x80"),
        (["שלום", " عالم"], [1], "שלום<< عالم>>"),
    ],
)
def test_corpus_text_never_looks_like_a_mark(tokens: list[str], marks: list[int], shown: str) -> None:
    assert lay_out(tokens, marks).text == shown


def test_long_tokens_survive() -> None:
    tokens = ["x" * 10_000, "<" * 10_000, "\n" * 10_000]
    laid = lay_out(tokens, [1])
    assert [unescape(laid.text[start:stop]) for start, stop in laid.bounds] == tokens


@pytest.mark.parametrize("text", ["a << b", "a >> b", "<<a << b>>", "<<>>"])
def test_marks_that_do_not_pair_up_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"pair up|not closed"):
        parse_marked(text)


def test_tokens_above_three_tenths_of_the_window_maximum_activate() -> None:
    window = example(list("abcde"), [0.0, 10.0, 3.0, 3.1, 0.1])
    assert activating_positions(window).tolist() == [1, 3]
    assert activating_positions(example(["a"], [0.0])).tolist() == []


def test_strengths_are_tenths_of_the_maximum_rounded_down() -> None:
    activations = np.array([0.0, 2.0, 3.9, 7.99, 8.0], np.float32)
    assert strengths(list("abcde"), activations, [1, 2, 3, 4], 8.0) == [("b", 2), ("c", 4), ("d", 9), ("e", 10)]
    assert strengths(["a"], np.array([9.0], np.float32), [0], 8.0) == [("a", 10)]


def test_a_token_without_text_gives_its_strength_to_the_one_that_completes_it() -> None:
    assert strengths(["", "é"], np.array([4.0, 2.0], np.float32), [0, 1], 4.0) == [("é", 10)]


def test_a_quoted_token_ends_at_its_quotes() -> None:
    assert quote(' "hi"\n') == r'" \"hi\"\n"'
    assert unescape(quote('"')[1:-1]) == '"'


def test_an_explanation_stands_on_one_line_with_its_backslashes_as_they_are() -> None:
    assert one_line(" line breaks, \\n,\r\n\n  after\u2028commas\x00 ") == "line breaks, \\n, after commas\ufffd"
