"""Corpora: what is read, in which order, and how mistakes in them are told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from harness.errors import CorpusError
from harness.subject.corpus import DatasetCorpus, FileCorpus, open_corpus
from harness.task import CorpusSettings


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_jsonl_file_gives_its_column_in_order(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(lines({"body": "one", "n": 1}, {"body": "two"}) + "\n", encoding="utf-8")
    corpus = FileCorpus(path, "body")
    assert list(corpus.documents()) == ["one", "two"]
    assert list(corpus.documents()) == ["one", "two"]
    assert corpus.progress() == 1.0


def test_a_text_file_is_split_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_bytes("\ufeff\n first\r\nline\n\n \t\n\nsecond\n".encode())
    assert list(FileCorpus(path).documents()) == [" first\r\nline", "second"]


def test_a_folder_is_read_by_name_and_gzip_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.jsonl").write_text(lines({"text": "c"}), encoding="utf-8")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a1\n\na2"))
    (tmp_path / "ignored.csv").write_text("x", encoding="utf-8")
    assert list(FileCorpus(tmp_path).documents()) == ["a1", "a2", "b", "c"]


def test_the_identity_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    first, second, other = (tmp_path / f"{name}.jsonl" for name in "abc")
    first.write_text(lines({"text": "one"}), encoding="utf-8")
    second.write_text(lines({"text": "one"}), encoding="utf-8")
    other.write_text(lines({"text": "two"}), encoding="utf-8")
    identity = FileCorpus(first).identity()
    assert FileCorpus(second).identity() == identity
    assert FileCorpus(other).identity() != identity
    assert FileCorpus(first, "body").identity() != identity


def test_relative_paths_start_from_the_base(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("one", encoding="utf-8")
    corpus = open_corpus(CorpusSettings(path=Path("c.txt")), tmp_path)
    assert list(corpus.documents()) == ["one"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"text": "a"}\n{"text": \n', "c.jsonl:2: not valid JSON"),
        ('{"text": "a"}\n[1]\n', 'c.jsonl:2: expected an object with a "text" column'),
        ('{"body": "a", "id": 3}\n', 'c.jsonl:1: there is no column "text"; columns here: body, id'),
        ('{"text": null}\n', 'c.jsonl:1: column "text" has to be text, not null'),
        ('{"text": 3}\n', 'c.jsonl:1: column "text" has to be text, not int'),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError) as error:
        list(FileCorpus(path).documents())
    assert expected in str(error.value)


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_bytes(b"fine\nfine\n\xff\xfe\n")
    with pytest.raises(CorpusError, match=r"c\.txt:2|c\.txt:3"):
        list(FileCorpus(path).documents())


def test_a_truncated_gzip_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.txt.gz"
    path.write_bytes(gzip.compress(b"some text " * 1000)[:40])
    with pytest.raises(CorpusError, match="not a complete gzip file"):
        list(FileCorpus(path).documents())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gone.jsonl", "no such corpus"), ("empty", "holds no .jsonl or .txt file"), ("c.csv", "a corpus is a .jsonl")],
)
def test_a_place_that_holds_no_corpus_is_told(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "c.csv").write_text("x", encoding="utf-8")
    with pytest.raises(CorpusError, match=expected):
        open_corpus(CorpusSettings(path=Path(name)), tmp_path)


def test_a_hugging_face_data_set_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text(lines({"body": "one"}, {"body": "two"}), encoding="utf-8")
    corpus = DatasetCorpus(CorpusSettings(dataset=str(folder), column="body"))
    assert list(corpus.documents()) == ["one", "two"]
    assert corpus.progress() is None
    with pytest.raises(CorpusError, match='row 0: there is no column "text"; columns here: body'):
        list(DatasetCorpus(CorpusSettings(dataset=str(folder))).documents())
    with pytest.raises(CorpusError, match="this data set cannot be read"):
        list(DatasetCorpus(CorpusSettings(dataset=str(folder), split="nosuch")).documents())
