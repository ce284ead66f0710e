"""The token table gives the text that the tokenizer gives, token by token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from harness.errors import StoreError
from harness.store import Vocabulary

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
CORPUS = [
    "The cat sat on the mat; the naïve café owner paid 3€ for it.",
    "Числа и слова: один, два, три.",
    "日本語の文章です。猫が座る。",
    "emoji 🙂🙃 and family 👩‍👩‍👧 and flags 🇩🇪\n\ttabs",
] * 5


def byte_level(size: int = 320) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("  ", normalized=False), AddedToken("<user>", normalized=False)])
    return tokenizer


def sentencepiece() -> Tokenizer:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", *"abcdefghijklmnopqrstuvwxyz.,T", "é"]
    tokens += ["▁t", "he", "▁the", "▁c", "▁ca", "▁cat"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=[("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "c"), ("▁c", "a"), ("▁ca", "t")],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


BYTE_LEVEL, SENTENCEPIECE = byte_level(), sentencepiece()
BYTE_TABLE, PIECE_TABLE = Vocabulary.from_tokenizer(BYTE_LEVEL), Vocabulary.from_tokenizer(SENTENCEPIECE)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@settings(deadline=None, max_examples=100)
def test_pieces_of_byte_level_bpe_join_to_the_decoded_text(text: str) -> None:
    ids = BYTE_LEVEL.encode(text).ids
    assert BYTE_TABLE.text(ids) == BYTE_LEVEL.decode(ids) == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="▁")))
@settings(deadline=None, max_examples=100)
def test_pieces_of_sentencepiece_join_to_the_decoded_text_and_its_leading_space(text: str) -> None:
    ids = SENTENCEPIECE.encode(text, add_special_tokens=False).ids
    assert PIECE_TABLE.text(ids).removeprefix(" ") == SENTENCEPIECE.decode(ids)


@given(st.lists(st.integers(2, BYTE_LEVEL.get_vocab_size() - 3), min_size=1, max_size=40))
@settings(deadline=None, max_examples=100)
def test_any_ids_of_byte_level_bpe_join_to_the_decoded_text(ids: list[int]) -> None:
    assert BYTE_TABLE.text(ids) == BYTE_LEVEL.decode(ids)


@given(st.text(min_size=1), st.data())
@settings(deadline=None, max_examples=100)
def test_a_window_has_the_pieces_that_it_has_in_its_context(text: str, data: st.DataObject) -> None:
    ids = BYTE_LEVEL.encode(text).ids
    start = data.draw(st.integers(0, len(ids)))
    stop = data.draw(st.integers(start, len(ids)))
    whole = BYTE_TABLE.pieces(ids)
    assert BYTE_TABLE.pieces(ids[start:stop], ids[:start], ends=stop == len(ids)) == whole[start:stop]


def test_a_split_character_belongs_to_the_token_that_completes_it() -> None:
    ids = [SENTENCEPIECE.token_to_id(token) for token in ("▁cat", "<0xE7>", "<0x8C>", "<0xAB>", "s")]
    assert PIECE_TABLE.pieces(ids) == (" cat", "", "", "猫", "s")
    assert PIECE_TABLE.pieces(ids[3:], ids[:3]) == ("猫", "s")
    assert PIECE_TABLE.strings[ids[1]] == "\udce7"


def test_a_character_cut_off_by_the_end_becomes_a_replacement() -> None:
    ids = [SENTENCEPIECE.token_to_id(token) for token in ("▁cat", "<0xE7>", "<0x8C>")]
    assert PIECE_TABLE.pieces(ids) == (" cat", "", "�")
    assert PIECE_TABLE.pieces(ids, ends=False) == (" cat", "", "")


def test_special_tokens_add_nothing() -> None:
    ids = BYTE_LEVEL.token_to_id("<s>"), BYTE_LEVEL.token_to_id("a"), BYTE_LEVEL.token_to_id("</s>")
    assert BYTE_TABLE.pieces(ids) == ("", "a", "")
    assert BYTE_TABLE.specials == (0, 1)


def test_added_tokens_that_are_not_special_are_their_own_text() -> None:
    ids = [BYTE_LEVEL.token_to_id("  "), BYTE_LEVEL.token_to_id("<user>")]
    assert BYTE_TABLE.pieces(ids) == ("  ", "<user>")


def test_an_id_outside_the_vocabulary_adds_nothing() -> None:
    assert BYTE_TABLE.pieces([10**6, BYTE_LEVEL.token_to_id("a")]) == ("", "a")
    assert Vocabulary(("a", "b")).pieces([0, 7, 1]) == ("a", "", "b")


def test_another_decoder_is_read_token_by_token() -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2, "the": 3}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    table = Vocabulary.from_tokenizer(tokenizer)
    assert table.pieces([1, 2, 3]) == (" play", "ing", " the")


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(StoreError, match=r"tokenizer\.json"):
        Vocabulary.from_tokenizer(object())


@pytest.mark.parametrize("table", [BYTE_TABLE, PIECE_TABLE])
def test_a_table_survives_json(table: Vocabulary, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(table.as_json()), "ascii")
    read = Vocabulary.load(path)
    assert (read.strings, read.specials) == (table.strings, table.specials)


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.is_dir(), reason="no real data beside the checkout")
def test_the_real_tokenizer_of_stories260k_is_read() -> None:
    tokenizer = Tokenizer.from_file(str(DATA / "stories260K" / "tokenizer.json"))
    table = Vocabulary.from_tokenizer(tokenizer)
    assert len(table) == tokenizer.get_vocab_size() == 512
    with (DATA / "text" / "tinystories.jsonl").open(encoding="utf-8") as file:
        stories = [json.loads(line)["text"] for line, _ in zip(file, range(300), strict=False)]
    for text in [*stories, "naïve 猫 🙂 “quoted”"]:
        ids = tokenizer.encode(text).ids
        assert table.text(ids).removeprefix(" ") == tokenizer.decode(ids, skip_special_tokens=True)
