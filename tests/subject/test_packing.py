"""Packing: rows of one length, what stands between documents, and which document each position is of."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import CorpusError, SubjectError
from harness.subject.models import find_model
from harness.subject.packing import Packer, SubjectTokenizer, load_tokenizer


class Letters:
    """A stand-in for a tokenizer's backend: a token a letter."""

    def encode_batch_fast(self, texts: list[str], add_special_tokens: bool) -> list[Any]:
        assert not add_special_tokens
        return [type("Encoding", (), {"ids": [ord(letter) for letter in text]}) for text in texts]


def letters(*, bos: int | None = 1, separator: int | None = 1) -> SubjectTokenizer:
    return SubjectTokenizer(Letters(), bos, separator)  # type: ignore[arg-type]  # the stand-in has what is used


def naive(texts: list[str], context: int, bos: int | None, separator: int | None) -> list[list[tuple[int, int]]]:
    """Rows of (token, document), one position at a time."""
    rows: list[list[tuple[int, int]]] = []
    row: list[tuple[int, int]] = []
    first = 0 if bos is None else 1

    def put(token: int, document: int) -> None:
        if not row and bos is not None:
            row.append((bos, -1))
        row.append((token, document))
        if len(row) == context:
            rows.append(row.copy())
            row.clear()

    for number, text in enumerate(texts):
        if text and len(row) > first and separator is not None:
            put(separator, -1)
        for letter in text:
            put(ord(letter), number)
    return rows


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.text("abc", max_size=9), max_size=12),
    st.integers(2, 7),
    st.sampled_from([(1, 1), (None, 2), (None, None), (1, None)]),
)
def test_rows_are_what_packing_one_token_at_a_time_gives(
    texts: list[str], context: int, special: tuple[int | None, int | None]
) -> None:
    bos, separator = special
    expected = naive(texts, context, bos, separator)
    packer = Packer(letters(bos=bos, separator=separator), context)
    if not expected:
        with pytest.raises(CorpusError):
            list(packer.rows(texts, "made"))
        return
    found = [
        list(zip(map(int, tokens), map(int, documents), strict=True))
        for tokens, documents in packer.rows(texts, "made")
    ]
    assert found == expected
    kept = sum(document >= 0 for row in found for _, document in row)
    assert packer.packed.dropped == sum(map(len, texts)) - kept
    assert packer.packed.documents == sum(map(bool, texts))


def test_a_row_opens_with_bos_and_documents_are_told_apart() -> None:
    [(tokens, documents), (more, _)] = Packer(letters(), 6).rows(["ab", "cde", "fgh"], "made")
    assert tokens.tolist() == [1, ord("a"), ord("b"), 1, ord("c"), ord("d")]
    assert documents.tolist() == [-1, 0, 0, -1, 1, 1]
    assert more.tolist()[:3] == [1, ord("e"), 1]


def test_the_limit_counts_whole_rows() -> None:
    packer = Packer(letters(), 4, limit=11)
    assert len(list(packer.rows(["abcdefghijkl"], "made"))) == 2
    assert packer.packed.contexts == 2
    with pytest.raises(CorpusError, match=r"subject.corpus.tokens \(3\) is less than one context of 4"):
        list(Packer(letters(), 4, limit=3).rows(["abc"], "made"))


def test_batches_lie_on_one_grid() -> None:
    sizes = [len(tokens) for tokens, _ in Packer(letters(), 3).batches(["abcdefghij"], "made", 2)]
    assert sizes == [2, 2, 1]


def test_an_empty_or_short_corpus_is_told() -> None:
    with pytest.raises(CorpusError, match="made: this corpus is empty"):
        list(Packer(letters(), 4).rows([], "made"))
    with pytest.raises(CorpusError, match="made: this corpus is empty"):
        list(Packer(letters(), 4).rows(["", ""], "made"))
    with pytest.raises(CorpusError, match="only 3 tokens, less than one context of 8"):
        list(Packer(letters(), 8).rows(["ab", "c"], "made"))


def tokenizer_in(folder: Path) -> SubjectTokenizer:
    return load_tokenizer(find_model(str(folder), None, Path(), weights=False))


def test_a_tokenizer_tells_its_special_tokens(tmp_path: Path, make_tokenizer: Any) -> None:
    make_tokenizer(tmp_path / "a")
    make_tokenizer(tmp_path / "b", bos=False, eos=True)
    make_tokenizer(tmp_path / "c", bos=False)
    found = [tokenizer_in(tmp_path / name) for name in "abc"]
    assert [(each.bos, each.separator) for each in found] == [(0, 0), (None, 1), (None, None)]


def test_a_special_token_in_a_text_is_plain_text(tmp_path: Path, make_tokenizer: Any) -> None:
    make_tokenizer(tmp_path)
    tokenizer = tokenizer_in(tmp_path)
    [ids] = tokenizer.encode(["the <s> cat"])
    assert 0 not in ids
    assert tokenizer.backend.decode(ids, skip_special_tokens=False) == "the <s> cat"


def test_truncation_kept_in_the_file_does_not_apply(tmp_path: Path, make_tokenizer: Any) -> None:
    backend = make_tokenizer(tmp_path)
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    backend.save(str(tmp_path / "tokenizer.json"))
    [short, long] = tokenizer_in(tmp_path).encode(["cat", "the cat sees a dog. the dog sees a cat."])
    assert len(short) < 9
    assert len(long) > 2


def test_packing_keeps_the_text(tmp_path: Path, make_tokenizer: Any, texts: list[str]) -> None:
    make_tokenizer(tmp_path)
    tokenizer = tokenizer_in(tmp_path)
    rows = list(Packer(tokenizer, 16).rows(texts, "made"))
    tokens = np.concatenate([tokens for tokens, _ in rows])
    documents = np.concatenate([documents for _, documents in rows])
    last = int(documents.max())
    for number in range(last):
        assert tokenizer.backend.decode(tokens[documents == number].tolist()) == texts[number]
    boundaries = [(a, b) for a, b in pairwise(documents.tolist()) if a >= 0 and b >= 0 and a != b]
    assert boundaries == []


def test_a_broken_tokenizer_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SubjectError, match=r"tokenizer\.json: not a valid tokenizer"):
        tokenizer_in(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(SubjectError, match=r"no tokenizer\.json"):
        tokenizer_in(tmp_path)


def test_packing_needs_no_torch(tmp_path: Path, make_tokenizer: Any) -> None:
    import subprocess

    make_tokenizer(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.subject.models import find_model; from harness.subject.packing import Packer, load_tokenizer\n"
        f"tokenizer = load_tokenizer(find_model({str(tmp_path)!r}, None, Path(), weights=False))\n"
        "list(Packer(tokenizer, 4).rows(['the cat sees a dog'], 'made'))\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)


def test_ids_are_parted_at_special_tokens_and_packed_like_text() -> None:
    tokenizer = SubjectTokenizer(Letters(), 1, 1, (1, 2))  # type: ignore[arg-type]  # the stand-in has what is used
    ids = [np.array([1, 10, 11, 2, 12, 13, 2], np.uint32), np.array([14, 15], np.uint32)]
    found = list(Packer(tokenizer, 5).rows(ids, "made"))
    assert [tokens.tolist() for tokens, _ in found] == [[1, 10, 11, 1, 12], [1, 13, 1, 14, 15]]
    assert [documents.tolist() for _, documents in found] == [[-1, 0, 0, -1, 1], [-1, 1, -1, 2, 2]]


def test_documents_that_open_rows_are_padded() -> None:
    tokenizer = SubjectTokenizer(Letters(), 1, 1, (1, 2))  # type: ignore[arg-type]  # the stand-in has what is used
    packer = Packer(tokenizer, 4, policy="rows")
    ids = np.array([1, 10, 11, 2, 12], np.uint32)
    found = list(packer.rows(["ab", ids, ""], "made"))
    assert [tokens.tolist() for tokens, _ in found] == [[1, 97, 98, 1], [1, 10, 11, 2], [1, 12, 1, 1]]
    assert [documents.tolist() for _, documents in found] == [[-1, 0, 0, -1], [-1, 1, 1, -1], [-1, 1, -1, -1]]
    assert (packer.packed.documents, packer.packed.dropped, packer.packed.padding) == (2, 0, 3)


def test_rows_of_ids_without_a_bos_of_ours_stay_as_they_are() -> None:
    tokenizer = SubjectTokenizer(Letters(), None, 2, (1, 2))  # type: ignore[arg-type]  # the stand-in has what is used
    [(tokens, documents)] = Packer(tokenizer, 4, policy="rows").rows([np.array([1, 10, 11, 12], np.uint32)], "made")
    assert tokens.tolist() == [1, 10, 11, 12]
    assert documents.tolist() == [-1, 0, 0, 0]


def test_a_token_beyond_the_vocabulary_is_named() -> None:
    packer = Packer(letters(), 4, vocabulary=98)
    with pytest.raises(CorpusError, match=r"made: document 1, position 1: token id 98 is beyond .* vocabulary of 98"):
        list(packer.rows(["aaa", "ab"], "made"))
    with pytest.raises(CorpusError, match="document 0, position 0: token id 98 "):
        list(packer.rows([np.array([98], np.uint32)], "made"))


def test_the_task_decides_about_the_bos() -> None:
    assert letters().opened_by_bos(None).bos == letters().opened_by_bos(True).bos == 1
    without = letters().opened_by_bos(False)
    assert (without.bos, without.separator) == (None, 1)
    with pytest.raises(SubjectError, match=r"subject.bos = true: this model's tokenizer has no BOS"):
        letters(bos=None).opened_by_bos(True)
