"""How pieces become words, and where words are said to stand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.rules import Text

FRAGMENTS = st.sampled_from(
    [
        "",
        " ",
        "The",
        " bank",
        "er",
        "s",
        ".",
        "?",
        "!",
        '"',
        ' "',
        "(",
        ")",
        "\n",
        ",",
        " 1",
        "9",
        " Anna",
        " if",
        ' ."',
        "  a b ",
    ]
)
CONTEXTS = st.lists(FRAGMENTS, max_size=30)


def units(text: Text) -> list[str]:
    return [text.words[entry] for entry in text.whole]


def test_words_are_joined_over_pieces_and_stand_on_the_piece_that_completes_them() -> None:
    text = Text([" ban", "k", "s", " of", " 19", "26", "."])
    assert units(text) == ["banks", "of", "1926", "."]
    assert text.piece[text.whole].tolist() == [2, 3, 5, 6]
    assert text.words == ["ban", "bank", "banks", "of", "19", "1926", "."]


def test_a_piece_may_hold_several_words_or_none() -> None:
    text = Text([" one two", " ", '."', "\n\n"])
    assert units(text) == ["one", "two", ".", '"', "\n", "\n"]
    assert text.piece.tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert text.unit.tolist() == [0, 1, -1, 2, 3, 4, 5]


def test_a_word_does_not_go_on_over_a_special_token() -> None:
    text = Text(["ban", "", "k"])
    assert units(text) == ["ban", "k"]
    assert text.structure.document.tolist() == [0, 1]


def test_sentences_begin_after_a_terminal_unless_a_small_letter_follows() -> None:
    text = Text(['"', "Where", "?", '"', " asked", " Anna", ".", " Here", "\n", "below"])
    assert units(text) == ['"', "Where", "?", '"', "asked", "Anna", ".", "Here", "\n", "below"]
    assert text.structure.sentence.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1, 2]
    assert text.structure.sentence_place.tolist() == [0, 0, 1, 1, 1, 2, 3, 0, 1, 0]
    assert text.structure.line.tolist() == [0] * 9 + [1]


def test_clauses_end_at_commas_and_colons() -> None:
    text = Text(["if", " so", ",", " go", ":", " a", "-", "b"])
    assert text.structure.clause.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert text.structure.clause_place.tolist() == [0, 1, 2, 0, 1, 0, 1, 1]


def test_quotation_marks_and_brackets_close_with_their_line() -> None:
    text = Text(['"', "a", "\n", "b", " (", "c", " (", "d", ")", "e", ")", "f"])
    inside = dict(zip(units(text), text.structure.bracketed.tolist(), strict=True))
    assert [inside[word] for word in "bcdef"] == [False, True, True, True, False]
    quoted = dict(zip(units(text), text.structure.quoted.tolist(), strict=True))
    assert quoted["a"]
    assert not quoted["b"]


@given(CONTEXTS)
def test_every_piece_has_an_entry_and_entries_are_in_order(pieces: list[str]) -> None:
    text = Text(pieces)
    assert np.array_equal(np.unique(text.piece), np.arange(len(pieces)))
    assert (np.diff(text.piece) >= 0).all()
    assert len(text.words) == len(text.piece) == len(text.unit)


@given(CONTEXTS)
def test_the_words_of_a_document_are_those_of_its_text(pieces: list[str]) -> None:
    documents: list[list[str]] = [[]]
    for piece in pieces:
        documents.append([]) if piece == "" else documents[-1].append(piece)
    expected = [unit for document in documents for unit in units(Text(["".join(document)]))]
    assert units(Text(pieces)) == expected


@given(CONTEXTS)
def test_what_is_known_of_a_unit_does_not_change_with_what_follows(pieces: list[str]) -> None:
    whole = Text(pieces)
    for stop in range(len(pieces)):
        part = Text(pieces[:stop])
        entries = len(part.words)
        assert part.words == whole.words[:entries]
        assert np.array_equal(part.hashes, whole.hashes[:entries])
        for name in ("document", "line", "sentence", "clause", "sentence_place", "quoted", "bracketed"):
            known = getattr(part.structure, name)
            assert np.array_equal(known, getattr(whole.structure, name)[: len(known)])
