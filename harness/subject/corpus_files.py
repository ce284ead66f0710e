"""Corpora in files: JSONL, plain text and Parquet, folders of these, packed with gzip or Zstandard."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.errors import CorpusError
from harness.subject.documents import Document, document_of, no_column
from harness.values import digest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["FileCorpus"]

_LINES = (".jsonl", ".ndjson")
_TEXT = (".txt",)
_PARQUET = (".parquet",)
_KNOWN = _LINES + _TEXT + _PARQUET
_PACKED = (".gz", ".zst")
# Rows of a Parquet file in memory at once.
_ROWS = 256


class FileCorpus:
    """A `.jsonl`, `.parquet` or `.txt` file, or a folder of these.

    The rows of JSONL and Parquet hold text, or token ids, under `column`; documents of a `.txt` file are separated
    by blank lines. JSONL and text may be packed (`.gz`, `.zst`).
    """

    revision = None

    def __init__(self, path: Path, column: str = "text") -> None:
        self.name = str(path)
        self.column = column
        self.files = _files(path)
        self._size = sum(file.stat().st_size for file in self.files)
        self._read = 0

    def documents(self) -> Iterator[Document]:
        """The documents, in order; each call starts again.

        Raises:
            CorpusError: a row is malformed; the message names file and row.
        """
        self._read = 0
        for file in self.files:
            before = self._read
            if _kind(file) in _PARQUET:
                yield from self._parquet(file, before)
            else:
                with _opened(file) as (raw, lines):
                    for document in self._json_lines(file, lines) if _kind(file) in _LINES else _paragraphs(lines):
                        self._read = before + raw.tell()
                        yield document
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

    def _json_lines(self, file: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Document]:
        for number, line in lines:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CorpusError(f"{file}:{number}: not valid JSON: {error}") from error
            yield document_of(row, self.column, f"{file}:{number}")

    def _parquet(self, file: Path, before: int) -> Iterator[Document]:
        import pyarrow
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(file) as source:
                if self.column not in source.schema_arrow.names:
                    raise CorpusError(f"{file}: {no_column(self.column, source.schema_arrow.names)}")
                size, done = file.stat().st_size, 0
                for batch in source.iter_batches(_ROWS, columns=[self.column]):
                    for number, row in enumerate(batch.to_pylist(), done):
                        yield document_of(row, self.column, f"{file}, row {number}")
                    done += len(batch)
                    self._read = before + size * done // source.metadata.num_rows
        except (pyarrow.ArrowException, OSError) as error:
            line = str(error).strip().splitlines() or [type(error).__name__]
            raise CorpusError(f"{file}: not a readable Parquet file: {line[0]}") from error


def _files(path: Path) -> tuple[Path, ...]:
    if path.is_dir():
        found = tuple(file for file in sorted(path.rglob("*")) if file.is_file() and _kind(file) in _KNOWN)
        if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
            raise CorpusError(f'{path}: this is a saved Hugging Face data set; give it as dataset = "..."')
        if not found:
            raise CorpusError(f"{path}: this folder holds no .jsonl, .txt or .parquet file")
        return found
    what = "a .jsonl, .txt, .parquet, .npy, .npz or .safetensors file, or a folder of the first three"
    if not path.is_file():
        raise CorpusError(f"{path}: no such corpus; subject.corpus.path is {what}")
    if _kind(path) not in _KNOWN:
        raise CorpusError(f"{path}: a corpus is {what}")
    return (path,)


def _kind(file: Path) -> str:
    return Path(file.stem).suffix.lower() if file.suffix.lower() in _PACKED else file.suffix.lower()


@contextmanager
def _opened(file: Path) -> Iterator[tuple[IO[bytes], Iterator[tuple[int, str]]]]:
    """The raw file, whose position tells how far reading got, and its numbered lines as text."""
    with file.open("rb") as raw:
        packing = file.suffix.lower()
        stream: Any = raw
        if packing == ".gz":
            stream = gzip.GzipFile(fileobj=raw)
        elif packing == ".zst":
            stream = zstd.ZstdFile(raw)
        yield raw, _numbered(file, stream)


def _numbered(file: Path, stream: Any) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file}:{number}: not valid UTF-8") from error
    except (EOFError, gzip.BadGzipFile, zstd.ZstdError) as error:
        packing = "gzip" if file.suffix.lower() == ".gz" else "Zstandard"
        raise CorpusError(f"{file}: not a complete {packing} file: {error}") from error


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
