"""Corpora: what is read, in which order, and how mistakes in them are told."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

from harness.errors import CorpusError
from harness.subject.corpus import open_corpus
from harness.subject.corpus_files import FileCorpus
from harness.subject.corpus_hub import DatasetCorpus
from harness.task import CorpusSettings

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


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
        ('{"text": null}\n', 'c.jsonl:1: column "text" has to be text or a list of token ids, not null'),
        ('{"text": [[1, 2]]}\n', 'c.jsonl:1: column "text": token ids have to be a flat list of integers'),
        ('{"text": [[1], [2, 3]]}\n', 'c.jsonl:1: column "text": token ids have to be a flat list of integers'),
        ('{"text": [1.5]}\n', 'c.jsonl:1: column "text": token ids have to be a flat list of integers'),
        ('{"text": [4, -1]}\n', 'c.jsonl:1: column "text", position 1: -1 is no token id'),
        ('{"text": 3}\n', 'c.jsonl:1: column "text" has to be text or a list of token ids, not int'),
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


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("zst", zstd.compress)])
def test_a_truncated_packed_file_is_told(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"c.txt.{ending}"
    path.write_bytes(pack(b"".join(b"%d " % number for number in range(5000)))[:-40])
    with pytest.raises(CorpusError, match=r"not a complete (gzip|Zstandard) file"):
        list(FileCorpus(path).documents())


def test_a_file_packed_with_zstandard_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl.zst"
    path.write_bytes(zstd.compress(lines({"text": "one"}, {"text": "two"}).encode()))
    corpus = FileCorpus(path)
    assert list(corpus.documents()) == ["one", "two"]
    assert corpus.progress() == 1.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gone.jsonl", "no such corpus"),
        ("gone.npy", "no such corpus"),
        ("empty", "holds no .jsonl, .txt or .parquet file"),
        ("c.csv", "a corpus is a .jsonl"),
    ],
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


def saved(folder: Path, **columns: Any) -> CorpusSettings:
    """A data set as `save_to_disk` leaves it."""
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns)}).save_to_disk(str(folder))
    return CorpusSettings(dataset=str(folder))


def test_a_saved_data_set_is_read_and_identified_by_its_content(tmp_path: Path) -> None:
    first = DatasetCorpus(saved(tmp_path / "one", text=["a", "b"]))
    same = DatasetCorpus(saved(tmp_path / "two", text=["a", "b"]))
    other = DatasetCorpus(saved(tmp_path / "three", text=["a", "c"]))
    assert list(first.documents()) == list(same.documents()) == ["a", "b"]
    assert first.identity() == DatasetCorpus(CorpusSettings(dataset="one"), tmp_path).identity()
    assert first.identity() != other.identity()
    assert first.revision is None
    with pytest.raises(CorpusError, match='no split "test"; splits here: train'):
        list(DatasetCorpus(CorpusSettings(dataset=str(tmp_path / "one"), split="test")).documents())
    with pytest.raises(CorpusError, match="revision belongs to a data set of the Hub"):
        DatasetCorpus(CorpusSettings(dataset=str(tmp_path / "one"), revision="main"))
    with pytest.raises(CorpusError, match="this is a saved Hugging Face data set; give it as dataset ="):
        open_corpus(CorpusSettings(path=tmp_path / "one"), tmp_path)


def test_a_tokenised_data_set_gives_ids(tmp_path: Path) -> None:
    settings = saved(tmp_path / "ids", input_ids=[[5, 6], [7]]).model_copy(update={"column": "input_ids"})
    found = list(DatasetCorpus(settings).documents())
    assert [np.asarray(ids).tolist() for ids in found] == [[5, 6], [7]]


def test_a_data_sets_commit_is_its_revision_and_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def info(_: Any, name: str, revision: str | None = None) -> Any:
        asked.append((name, revision))
        return type("Info", (), {"sha": f"commit-of-{revision}"})

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", info)
    one, two = (DatasetCorpus(CorpusSettings(dataset="some/text", revision=revision)) for revision in ("v1", "v2"))
    assert (one.revision, two.revision) == ("commit-of-v1", "commit-of-v2")
    assert one.identity() != two.identity()
    assert asked == [("some/text", "v1"), ("some/text", "v2")]

    loaded: list[Any] = []
    monkeypatch.setattr("datasets.load_dataset", lambda *names, **how: loaded.append((names, how)) or [{"text": "a"}])
    assert list(one.documents()) == ["a"]
    assert loaded == [(("some/text", None), {"split": "train", "streaming": True, "revision": "commit-of-v1"})]


def test_a_parquet_file_gives_text_or_ids(tmp_path: Path) -> None:
    table = pyarrow.table({"text": [str(n) for n in range(600)], "tokens": [[n, n + 1] for n in range(600)]})
    pyarrow.parquet.write_table(table, tmp_path / "c.parquet", row_group_size=100)
    corpus = FileCorpus(tmp_path / "c.parquet")
    assert list(corpus.documents()) == [str(n) for n in range(600)]
    assert corpus.progress() == 1.0
    ids = list(FileCorpus(tmp_path / "c.parquet", "tokens").documents())
    assert [np.asarray(row).tolist() for row in ids] == [[n, n + 1] for n in range(600)]
    with pytest.raises(CorpusError, match='no column "body"; columns here: text, tokens'):
        list(FileCorpus(tmp_path / "c.parquet", "body").documents())
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(CorpusError, match=r"broken\.parquet: not a readable Parquet file"):
        list(FileCorpus(tmp_path / "broken.parquet").documents())


@pytest.mark.parametrize("ending", ["npy", "npz", "safetensors"])
@pytest.mark.parametrize("dtype", ["uint16", "int64"])
def test_an_array_gives_a_document_a_row(tmp_path: Path, ending: str, dtype: str) -> None:
    path = tmp_path / f"c.{ending}"
    array = np.arange(12, dtype=dtype).reshape(4, 3)
    if ending == "npy":
        np.save(path, array)
    elif ending == "npz":
        np.savez(path, tokens=array)
    else:
        save_file({"tokens": array}, path)
    corpus = open_corpus(CorpusSettings(path=path), tmp_path)
    assert [np.asarray(ids).tolist() for ids in corpus.documents()] == array.tolist()
    assert corpus.progress() == 1.0
    identity = corpus.identity()
    path.write_bytes(path.read_bytes()[:-1] + b"\x09")
    assert corpus.identity() != identity


def test_an_array_is_chosen_by_the_column_among_several(tmp_path: Path) -> None:
    save_file({"a": np.array([[1]]), "b": np.array([[2]])}, tmp_path / "c.safetensors")
    settings = CorpusSettings(path=tmp_path / "c.safetensors", column="b")
    assert [np.asarray(ids).tolist() for ids in open_corpus(settings, tmp_path).documents()] == [[2]]
    with pytest.raises(CorpusError, match='there is no array "text"; arrays here: a, b'):
        list(open_corpus(settings.model_copy(update={"column": "text"}), tmp_path).documents())


def test_a_flat_array_is_cut_where_a_separator_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = np.array([5, 6, 0, 7, 8, 9, 0, 0, 4], np.uint16)
    np.save(tmp_path / "c.npy", stream)
    settings = CorpusSettings(path=tmp_path / "c.npy")
    for block in (1, 2, 3, 100):
        monkeypatch.setattr("harness.subject.corpus_arrays._BLOCK", block)
        found = [np.asarray(ids).tolist() for ids in open_corpus(settings, tmp_path, [0, 3]).documents()]
        assert [ids for ids in found if ids] == [[5, 6], [7, 8, 9], [4]]
    with pytest.raises(CorpusError, match=r"no end of a document \(token 11\) in 9 flat ids; give them as \[documents"):
        list(open_corpus(settings, tmp_path, [11]).documents())


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((2, 2)), "token ids are integers, and this array holds float64"),
        (np.zeros((2, 2, 2), np.int64), "this array is [2, 2, 2]"),
        (np.array([[1, -5]]), "row 0, position 1: -5 is no token id"),
        (np.array([object()]), "not a readable array of token ids"),
    ],
)
def test_an_array_that_holds_no_ids_is_told(tmp_path: Path, array: np.ndarray[Any, Any], expected: str) -> None:
    np.save(tmp_path / "c.npy", array, allow_pickle=True)
    with pytest.raises(CorpusError) as error:
        list(open_corpus(CorpusSettings(path=tmp_path / "c.npy"), tmp_path).documents())
    assert expected in str(error.value)
