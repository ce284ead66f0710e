"""Token strings as dashboards show them become the text that they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from harness.interop.token_strings import PAD, TokenStrings

TEXT = "It’s “fine”\n\tnaïve 日本 🎉 end"


def shown(text: str, size: int = 3) -> list[str]:
    """A text's UTF-8 in tokens of some bytes, as a byte-level vocabulary writes them and a dashboard shows them."""
    data = text.encode()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    characters = [char for char, _ in made.pre_tokenizer.pre_tokenize_str(text)]
    joined = "".join(characters)
    assert len(joined) == len(data)
    pieces = [joined[at : at + size] for at in range(0, len(joined), size)]
    return [piece.replace("Ġ", " ").replace("Ċ", "\n").replace("ĉ", "\t") for piece in pieces]


def text_of(*rows: list[str]) -> list[str]:
    strings = TokenStrings()
    ids = [strings.row(row) for row in rows]
    return [strings.vocabulary().text(row) for row in ids]


def test_bytes_of_a_byte_level_vocabulary_are_text_again() -> None:
    assert "âĢĻ" in "".join(shown(TEXT))
    assert text_of(shown(TEXT)) == [TEXT]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\f\v"), min_size=1), st.integers(1, 5))
def test_any_text_comes_back(text: str, size: int) -> None:
    # one row of plain non-ASCII text beside it decides that these are bytes
    assert text_of(shown(text, size), shown("é" * 3))[0] == text


def test_it_is_what_the_tokenizers_own_decoder_gives() -> None:
    pieces = shown(TEXT, 4)
    raw = [piece.replace(" ", "Ġ").replace("\n", "Ċ").replace("\t", "ĉ") for piece in pieces]
    assert text_of(pieces) == [decoders.ByteLevel().decode(raw)]


def test_a_row_may_begin_and_end_within_a_character() -> None:
    tokens = shown("’a’", 1)
    assert text_of(tokens[1:-1], shown("é"))[0] == "��a�"


@pytest.mark.parametrize("text", ["naïve café", "日本語", "’quoted’"])
def test_text_that_was_decoded_already_stays_as_it_is(text: str) -> None:
    assert text_of(list(text)) == [text]


def test_characters_of_the_vocabulary_itself_are_bytes() -> None:
    assert text_of(["Ġthe", "Ġcat", "Ċ", "âĢĻ", "s"]) == [" the cat\n’s"]
    assert text_of(["Ġthe", "Ġcat"]) == [" the cat"]


def test_the_byte_tokens_and_blanks_of_a_sentencepiece_vocabulary() -> None:
    assert text_of(["▁It", "<0xE2>", "<0x80>", "<0x99>", "s", "▁", "<0x0A>", " é"]) == [" It’s \n é"]


def test_punctuation_that_a_dashboard_put_back_is_no_byte() -> None:
    tokens = [*shown("It’s so", 4), " —", " “", *shown("naïve”", 2)]
    assert text_of(tokens) == ["It’s so — “naïve”"]


def test_plain_text_needs_no_decision() -> None:
    assert text_of([" the", " cat", "\n", "s"]) == [" the cat\ns"]


def test_special_tokens_have_no_text_and_are_told_apart() -> None:
    strings = TokenStrings()
    ids = strings.row(["<|endoftext|>", "a", "<bos>", "a"])
    assert strings.special(ids).tolist() == [True, False, True, False]
    assert strings.special(np.array([PAD], np.uint32)).tolist() == [True]
    vocabulary = strings.vocabulary()
    assert vocabulary.pieces(ids) == ("", "a", "", "a")
    assert set(vocabulary.specials) == {PAD, int(ids[0]), int(ids[2])}


def test_equal_strings_have_one_id_and_others_another() -> None:
    strings = TokenStrings()
    one, two = strings.row(["a", " a", "a"]), strings.row([" a", "b"])
    assert one.tolist() == [1, 2, 1]
    assert two.tolist() == [2, 3]
