"""P(1) from the logprobs at each answer position."""

from __future__ import annotations

import math

import pytest

from harness.questions.labels import Label, find_labels
from harness.questions.probabilities import probabilities
from harness.values import TokenLogprob


def told(tokens: list[TokenLogprob], count: int, text: str | None = None) -> tuple[float | None, ...]:
    text = "".join(token.token for token in tokens) if text is None else text
    labels = find_labels(text, count)
    assert labels is not None
    return probabilities(text, labels, tokens)


def top(text: str, alternatives: dict[str, float]) -> TokenLogprob:
    pairs = tuple((name, math.log(mass)) for name, mass in alternatives.items())
    return TokenLogprob(text, dict(pairs).get(text, math.log(0.01)), pairs)


def plain(text: str) -> TokenLogprob:
    return TokenLogprob(text, -0.1, ((text, -0.1),))


def test_mass_of_one_over_the_mass_of_both_at_each_position() -> None:
    tokens = [
        plain("["),
        top("1", {"1": 0.6, "0": 0.2, "2": 0.2}),
        plain(","),
        top(" 0", {" 0": 0.9, " 1": 0.06, "]": 0.04}),
        plain("]"),
    ]
    assert told(tokens, 2) == pytest.approx([0.75, 0.0625])


def test_spellings_of_a_label_are_added_up() -> None:
    tokens = [
        plain("["),
        top("1", {"1": 0.3, " 1": 0.1, "0": 0.15, " 0": 0.05, "true": 0.1, "false": 0.1}),
        plain("]"),
    ]
    assert told(tokens, 1) == pytest.approx([0.5 / 0.8])


@pytest.mark.parametrize(
    ("pieces", "alternatives"),
    [
        (["[1", ",", " 0", "]"], ("[1", "[0")),
        (["[", "1,", " 0", "]"], ("1,", "0,")),
        (["[", " 1", ", ", "0", "]"], (" 1", " 0")),
        (['["', '1"', ', "', '0"]'], ('1"', '0"')),
        (["[", "true", ", ", "false", "]"], ("true", "false")),
        (["[", " True", ", ", "False", "]"], (" True", " False")),
        (["Yes", ", ", "no", ", ", "no"], ("Yes", "No")),
    ],
)
def test_a_label_is_found_in_whatever_token_holds_it(pieces: list[str], alternatives: tuple[str, str]) -> None:
    one, zero = alternatives
    tokens = [top(piece, {one: 0.8, zero: 0.2}) if piece == one else plain(piece) for piece in pieces]
    count = sum(piece.strip('[]", ').lower() in ("1", "0", "true", "false", "yes", "no") for piece in pieces)
    assert told(tokens, count)[0] == pytest.approx(0.8)


def test_a_token_that_says_two_labels_tells_neither() -> None:
    tokens = [top("10", {"10": 0.7, "11": 0.3}), top("1", {"1": 0.9, "0": 0.1}), top("1", {"1": 0.5, "0": 0.5})]
    assert told(tokens, 4) == (None, None, pytest.approx(0.9), pytest.approx(0.5))


def test_a_word_cut_into_tokens_tells_nothing() -> None:
    tokens = [plain("["), top("Tr", {"Tr": 0.9, "F": 0.1}), plain("ue"), plain("]")]
    assert told(tokens, 1) == (None,)


def test_a_missing_alternative_has_no_mass() -> None:
    tokens = [plain("["), top("1", {"1": 0.7, "x": 0.3}), plain(","), top("0", {"0": 0.7, "x": 0.3}), plain("]")]
    assert told(tokens, 2) == (1.0, 0.0)


def test_the_token_itself_counts_where_it_is_not_among_the_alternatives() -> None:
    tokens = [plain("["), TokenLogprob("1", math.log(0.2), (("0", math.log(0.6)),)), plain("]")]
    assert told(tokens, 1) == pytest.approx([0.25])


def test_no_mass_at_all_is_not_known() -> None:
    tokens = [plain("["), TokenLogprob("1", -9999.0, (("0", -9999.0),)), plain("]")]
    assert told(tokens, 1) == (None,)


def test_ten_is_not_one() -> None:
    tokens = [plain("["), top("1", {"1": 0.4, "10": 0.4, "1.": 0.1, "0": 0.1}), plain("]")]
    assert told(tokens, 1) == pytest.approx([0.8])


def test_tokens_before_and_after_the_reply_do_not_shift_it() -> None:
    reasoning = [plain("0"), plain(" and"), plain(" 1"), plain("\n")]
    reply = [plain("["), top("1", {"1": 0.9, "0": 0.1}), plain(","), top("0", {"0": 0.7, "1": 0.3}), plain("]")]
    assert told([*reasoning, *reply, plain("<|end|>")], 2, "[1,0]") == pytest.approx([0.9, 0.3])


def test_characters_spelled_in_another_way_do_not_shift_the_list() -> None:
    tokens = [plain("\\xe2\\x80"), plain("\\x94 ["), top("1", {"1": 0.9, "0": 0.1}), plain("]")]
    assert told(tokens, 1, "— [1]") == pytest.approx([0.9])


@pytest.mark.parametrize(
    "cut", [("\udce7\udc8c", "\udcab"), ("\ufffd", "\ufffd"), ("", ""), ("\udce7", "\udc8c\udcab: ")]
)
def test_a_character_cut_between_labels_shifts_neither(cut: tuple[str, str]) -> None:
    left, right = cut
    colon = "" if right.endswith(": ") else ": "
    first = [plain("1: "), top("1", {"1": 0.9, "0": 0.1}), plain("\n"), plain(left), plain(right + colon)]
    tokens = [*first, top("0", {"0": 0.7, "1": 0.3})]
    labels = [Label(1, 3, 4), Label(0, 8, 9)]
    assert probabilities("1: 1\n猫: 0", labels, tokens) == pytest.approx((0.9, 0.3))


def test_a_reply_that_overlaps_itself_in_what_was_spelled_tells_nothing() -> None:
    tokens = [top("1", {"1": 0.9}), plain(" "), top("1", {"1": 0.8, "0": 0.2}), plain(" "), top("1", {"1": 0.7})]
    assert told(tokens, 2, "1 1") == (None, None)


def test_an_escaped_character_before_the_list_shifts_nothing() -> None:
    tokens = [plain("\\xe2"), plain("1"), plain(" ["), top("1", {"1": 0.9, "0": 0.1}), plain("]")]
    assert told(tokens, 1, "— [1]") == pytest.approx([0.9])


def test_a_list_that_could_be_in_two_places_tells_nothing() -> None:
    tokens = [plain("\\xe2"), plain("[1]"), plain(" ["), top("1", {"1": 0.9, "0": 0.1}), plain("]")]
    assert told(tokens, 1, "—[1]") == (None,)


def test_tokens_of_another_text_tell_nothing() -> None:
    assert told([plain("something"), plain(" else")], 2, "[1, 0]") == (None, None)


def test_without_logprobs_nothing_is_known() -> None:
    labels = find_labels("[1, 0]", 2)
    assert labels is not None
    assert probabilities("[1, 0]", labels, None) == (None, None)
    assert probabilities("[1, 0]", labels, []) == (None, None)
