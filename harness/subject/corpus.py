"""Corpora: documents of text out of JSONL and plain text files, folders of these, and Hugging Face data sets."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from harness.errors import CorpusError, MissingDependency
from harness.task import CorpusSettings
from harness.values import digest

__all__ = ["Corpus", "DatasetCorpus", "FileCorpus", "open_corpus"]

_LINES = (".jsonl", ".ndjson")
_TEXT = (".txt",)


class Corpus(Protocol):
    """Documents in a fixed order, and what identifies them."""

    name: str
    """How messages call it."""

    def documents(self) -> Iterator[str]:
        """The texts, in order; each call starts again."""
        ...

    def identity(self) -> str:
        """A hash of the content, or of the data set's commit: equal text, equal identity."""
        ...

    def progress(self) -> float | None:
        """The share of the corpus that the latest `documents()` has read, or None where its size is not known."""
        ...


def open_corpus(settings: CorpusSettings, base: Path) -> Corpus:
    """The corpus of a task; paths are relative to `base`.

    Raises:
        CorpusError: there is no such file or folder, or it holds no corpus.
    """
    if settings.dataset is not None:
        return DatasetCorpus(settings)
    assert settings.path is not None
    return FileCorpus((base / settings.path.expanduser()).resolve(), settings.column)


class FileCorpus:
    """A `.jsonl` file (an object a line, the text under `column`), a `.txt` file, or a folder of these.

    Documents of a `.txt` file are separated by blank lines. Either may be compressed with gzip (`.gz`).
    """

    def __init__(self, path: Path, column: str = "text") -> None:
        self.name = str(path)
        self.column = column
        self.files = _files(path)
        self._size = sum(file.stat().st_size for file in self.files)
        self._read = 0

    def documents(self) -> Iterator[str]:
        """The texts, in order; each call starts again.

        Raises:
            CorpusError: a line is malformed; the message names file and line.
        """
        self._read = 0
        for file in self.files:
            before = self._read
            with _opened(file) as (raw, lines):
                texts = self._json_lines(file, lines) if _kind(file) in _LINES else _paragraphs(lines)
                for text in texts:
                    self._read = before + raw.tell()
                    yield text
            self._read = before + file.stat().st_size

    def identity(self) -> str:
        """A SHA-256 over the column's name and the files' content, in order."""
        total = hashlib.sha256(digest(["files", self.column]).encode())
        for file in self.files:
            with file.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def progress(self) -> float | None:
        """The share of the files' bytes that has been read."""
        return self._read / self._size if self._size else None

    def _json_lines(self, file: Path, lines: Iterator[tuple[int, str]]) -> Iterator[str]:
        for number, line in lines:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CorpusError(f"{file}:{number}: not valid JSON: {error}") from error
            yield _text(row, self.column, f"{file}:{number}")


class DatasetCorpus:
    """A Hugging Face data set, streamed; its identity is the commit that the Hub names."""

    def __init__(self, settings: CorpusSettings) -> None:
        assert settings.dataset is not None
        self.name = settings.dataset
        self._settings = settings
        self._commit: str | None = None

    def documents(self) -> Iterator[str]:
        """The texts, in order; each call starts again.

        Raises:
            CorpusError: the data set cannot be had, or has no such split or column.
        """
        try:
            from datasets import load_dataset
        except ModuleNotFoundError as error:
            raise MissingDependency('a Hugging Face corpus needs the package "datasets"') from error
        wanted = self._settings
        try:
            rows: Any = load_dataset(
                self.name, wanted.config, split=wanted.split, streaming=True, revision=self._resolved()
            )
            for number, row in enumerate(rows):
                yield _text(row, wanted.column, f"{self.name}, row {number}")
        except CorpusError:
            raise
        except Exception as error:
            line = str(error).strip().splitlines() or [type(error).__name__]
            raise CorpusError(f"{self.name}: this data set cannot be read: {line[0]}") from error

    def identity(self) -> str:
        """A hash of the data set's id, commit, configuration, split and column."""
        wanted = self._settings
        return digest(["dataset", self.name, self._resolved(), wanted.config, wanted.split, wanted.column])

    def progress(self) -> float | None:
        """None: a stream's length is not known."""
        return None

    def _resolved(self) -> str | None:
        if self._commit is None and not Path(self.name).exists():
            from huggingface_hub import HfApi

            try:
                self._commit = HfApi().dataset_info(self.name).sha
            except Exception as error:
                line = str(error).strip().splitlines() or [type(error).__name__]
                raise CorpusError(
                    f"{self.name}: the Hugging Face Hub has no answer for this data set: {line[0]}"
                ) from error
        return self._commit


def _files(path: Path) -> tuple[Path, ...]:
    if path.is_dir():
        found = tuple(file for file in sorted(path.rglob("*")) if file.is_file() and _kind(file) in _LINES + _TEXT)
        if not found:
            raise CorpusError(f"{path}: this folder holds no .jsonl or .txt file")
        return found
    if not path.is_file():
        raise CorpusError(f"{path}: no such corpus; subject.corpus.path is a .jsonl or .txt file or a folder of these")
    if _kind(path) not in _LINES + _TEXT:
        raise CorpusError(f"{path}: a corpus is a .jsonl or .txt file or a folder of these")
    return (path,)


def _kind(file: Path) -> str:
    return Path(file.stem).suffix.lower() if file.suffix.lower() == ".gz" else file.suffix.lower()


@contextmanager
def _opened(file: Path) -> Iterator[tuple[IO[bytes], Iterator[tuple[int, str]]]]:
    """The raw file, whose position tells how far reading got, and its numbered lines as text."""
    with file.open("rb") as raw:
        packed = file.suffix.lower() == ".gz"
        stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        yield raw, _numbered(file, stream)


def _numbered(file: Path, stream: Any) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file}:{number}: not valid UTF-8") from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise CorpusError(f"{file}: not a complete gzip file: {error}") from error


def _paragraphs(lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    held: list[str] = []
    for _, line in lines:
        if line.strip():
            held.append(line)
        elif held:
            yield "".join(held).strip("\r\n")
            held = []
    if held:
        yield "".join(held).strip("\r\n")


def _text(row: Any, column: str, where: str) -> str:
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: expected an object with a {json.dumps(column)} column")
    if column not in row:
        known = ", ".join(map(str, list(row)[:20])) or "none"
        raise CorpusError(f"{where}: there is no column {json.dumps(column)}; columns here: {known}")
    if not isinstance(row[column], str):
        kind = "null" if row[column] is None else type(row[column]).__name__
        raise CorpusError(f"{where}: column {json.dumps(column)} has to be text, not {kind}")
    return row[column]
