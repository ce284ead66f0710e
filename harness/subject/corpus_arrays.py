"""Corpora of token ids in arrays: `.npy`, `.npz` and safetensors files, mapped and not read into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import CorpusError
from harness.subject.documents import Document, ids_of
from harness.values import digest

__all__ = ["ARRAYS", "ArrayCorpus"]

ARRAYS = (".npy", ".npz", ".safetensors")
# Ids looked at at once.
_BLOCK = 1 << 20


class ArrayCorpus:
    """Token ids of a file: `[documents, tokens]`, or flat with one of `separators` between documents.

    A file of several arrays is asked for the one called `column`; one of a single array gives that.
    """

    revision = None

    def __init__(self, path: Path, column: str, separators: Collection[int] = ()) -> None:
        if not path.is_file():
            raise CorpusError(f"{path}: no such corpus")
        self.name = str(path)
        self.column = column
        self._path = path
        self._separators = np.array(sorted(separators), np.int64)
        self._share = 0.0

    def documents(self) -> Iterator[Document]:
        """The documents, in order; each call starts again.

        Raises:
            CorpusError: the file cannot be read, or holds no token ids.
        """
        rows, shape = self._rows()
        if len(shape) == 1:
            yield from self._flat(rows, shape[0])
            return
        for number in range(shape[0]):
            self._share = (number + 1) / shape[0]
            yield ids_of(rows[number], f"{self.name}, row {number}")

    def identity(self) -> str:
        """A SHA-256 over the array's name and the file's content."""
        total = hashlib.sha256(digest(["array", self.column]).encode())
        with self._path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def progress(self) -> float | None:
        """The share of the array that has been read."""
        return self._share or None

    def _rows(self) -> tuple[Any, tuple[int, ...]]:
        """Something that slices give arrays of, and its shape."""
        found, shape = self._opened()
        if len(shape) not in (1, 2):
            raise CorpusError(
                f"{self.name}: token ids are [documents, tokens] or flat, and this array is {list(shape)}"
            )
        sample = np.asarray(found[:0])
        if not np.issubdtype(sample.dtype, np.integer):
            raise CorpusError(f"{self.name}: token ids are integers, and this array holds {sample.dtype}")
        return found, shape

    def _opened(self) -> tuple[Any, tuple[int, ...]]:
        from safetensors import SafetensorError, safe_open

        try:
            if self._path.suffix.lower() == ".safetensors":
                source = safe_open(self._path, framework="numpy")
                tensor = source.get_slice(self._chosen(list(source.keys())))
                return tensor, tuple(tensor.get_shape())
            found = np.load(self._path, mmap_mode="r", allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found, found.shape
            with found:
                array = found[self._chosen(found.files)]
            return array, array.shape
        except (ValueError, OSError, EOFError, SafetensorError) as error:
            line = str(error).strip().splitlines() or [type(error).__name__]
            raise CorpusError(f"{self.name}: not a readable array of token ids: {line[0]}") from error

    def _chosen(self, names: list[str]) -> str:
        if self.column in names:
            return self.column
        if len(names) == 1:
            return names[0]
        there = ", ".join(sorted(names)[:20]) or "none"
        raise CorpusError(
            f'{self.name}: there is no array "{self.column}"; arrays here: {there} '
            '(subject.corpus.column = "..." chooses one)'
        )

    def _flat(self, stream: Any, length: int) -> Iterator[Document]:
        held: list[NDArray[np.uint32]] = []
        found = False
        for start in range(0, length, _BLOCK):
            block = ids_of(stream[start : start + _BLOCK], f"{self.name} from position {start} on")
            ends = np.flatnonzero(np.isin(block, self._separators))
            found = found or bool(len(ends))
            begin = 0
            for end in ends.tolist():
                yield np.concatenate([*held, block[begin:end]])
                held, begin = [], end + 1
            held.append(block[begin:])
            self._share = min(1.0, (start + _BLOCK) / length)
            self._check_separated(start + len(block), length, found=found)
        if held:
            yield np.concatenate(held)

    def _check_separated(self, seen: int, length: int, *, found: bool) -> None:
        """Text that is never parted cannot be divided into what is shown and what is scored."""
        if found or (seen < length and seen < 8 * _BLOCK):
            return
        ids = " or ".join(map(str, self._separators.tolist())) or "BOS or EOS, of which this tokenizer has none"
        raise CorpusError(
            f"{self.name}: no end of a document (token {ids}) in {seen:,} flat ids; give them as [documents, tokens]"
        )
