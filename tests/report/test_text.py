"""Text becomes visible and harmless; numbers read as they are quoted."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.text import count, duration, figure, p_value, span, visible


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("plain text", "plain text"),
        ("a\nb\tc", "a↵b⇥c"),
        ("\x1b[31mred\x07", "␛[31mred␇"),
        ("\x7f\x9b", "␡\\u009b"),
        ("abc\u202edcb", "abc\\u202edcb"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("byte \udce2", "byte \\xe2"),
        ("lone \ud800", "lone \\ud800"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("é 日本 👩\u200d🚀", "é 日本 👩\u200d🚀"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_a_sign(raw: str, seen: str) -> None:
    assert visible(raw) == seen


def test_breaks_are_kept_where_prose_is_shown() -> None:
    assert visible("one\ntwo\r", breaks=True) == "one\ntwo␍"


@given(st.text(st.characters(exclude_categories=[])))
def test_no_text_keeps_a_control_character_or_a_surrogate(text: str) -> None:
    seen = visible(text)
    assert not {unicodedata.category(c) for c in seen if c not in "\u200c\u200d"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    seen.encode()


def test_numbers_read_as_they_are_quoted() -> None:
    assert figure(-0.1234, 3) == "−0.123"
    assert figure(0.5, 3, sign=True) == "+0.500"
    assert figure(None) == figure(float("nan")) == "–"
    assert span((-0.1, 0.25)) == "[−0.10, 0.25]"
    assert span(None) == ""
    assert count(1234567) == "1,234,567"
    assert p_value(0.00004) == "p < 0.001"
    assert p_value(0.0312) == "p = 0.031"
    assert [duration(s) for s in (4.21, 143.2, 7300)] == ["4.2 s", "2 min 23 s", "2 h 1 min"]


def test_what_rounds_to_nothing_has_no_sign() -> None:
    assert [figure(-0.001), figure(-0.001, sign=True), figure(-0.006)] == ["0.00", "+0.00", "−0.01"]
