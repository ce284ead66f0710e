"""What a corpus is, and how a task's is opened: files of text or token ids, or a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from harness.subject.corpus_arrays import ARRAYS, ArrayCorpus
from harness.subject.corpus_files import FileCorpus
from harness.subject.corpus_hub import DatasetCorpus
from harness.subject.documents import Document
from harness.task import CorpusSettings

__all__ = ["Corpus", "open_corpus"]


class Corpus(Protocol):
    """Documents in a fixed order, and what identifies them."""

    name: str
    """How messages call it."""

    @property
    def revision(self) -> str | None:
        """The commit of a data set of the Hub; None for files, whose identity says all."""
        ...

    def documents(self) -> Iterator[Document]:
        """Texts or token ids, in order; each call starts again."""
        ...

    def identity(self) -> str:
        """A hash of the content, or of the data set's commit: equal documents, equal identity."""
        ...

    def progress(self) -> float | None:
        """The share of the corpus that the latest `documents()` has read, or None where its size is not known."""
        ...


def open_corpus(settings: CorpusSettings, base: Path, separators: Collection[int] = ()) -> Corpus:
    """The corpus of a task; paths are relative to `base`.

    `separators` are the ids that stand between documents where token ids come as one flat array.

    Raises:
        CorpusError: there is no such file or folder, or it holds no corpus.
    """
    if settings.dataset is not None:
        return DatasetCorpus(settings, base)
    assert settings.path is not None
    path = (base / settings.path.expanduser()).resolve()
    if path.suffix.lower() in ARRAYS:
        return ArrayCorpus(path, settings.column, separators)
    return FileCorpus(path, settings.column)
