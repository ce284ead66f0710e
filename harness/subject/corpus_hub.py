"""Corpora that are Hugging Face data sets, streamed from the Hub or from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import CorpusError, MissingDependency
from harness.subject.documents import Document, document_of
from harness.subject.models import content_hash
from harness.task import CorpusSettings
from harness.values import digest

__all__ = ["DatasetCorpus"]

# What `save_to_disk` leaves in a folder.
_SAVED = ("dataset_info.json", "dataset_dict.json")


class DatasetCorpus:
    """A Hugging Face data set, streamed: of the Hub, a folder of its files, or one written by `save_to_disk`.

    The identity is the commit that the Hub names, or a hash of the folder's content.
    """

    def __init__(self, settings: CorpusSettings, base: Path = Path()) -> None:
        assert settings.dataset is not None
        folder = (base / Path(settings.dataset).expanduser()).resolve()
        self.name = settings.dataset
        self._folder = folder if folder.is_dir() else None
        self._settings = settings
        self._commit: str | None = None
        if self._folder is not None and settings.revision is not None:
            raise CorpusError(f"{self.name}: revision belongs to a data set of the Hub, and this is a folder")

    @property
    def revision(self) -> str | None:
        """The commit on the Hub; None for a folder."""
        if self._commit is None and self._folder is None:
            self._commit = self._resolved()
        return self._commit

    def documents(self) -> Iterator[Document]:
        """The documents, in order; each call starts again.

        Raises:
            CorpusError: the data set cannot be had, or has no such split or column.
        """
        try:
            for number, row in enumerate(self._rows()):
                yield document_of(row, self._settings.column, f"{self.name}, row {number}")
        except (CorpusError, MissingDependency):
            raise
        except Exception as error:
            line = str(error).strip().splitlines() or [type(error).__name__]
            raise CorpusError(f"{self.name}: this data set cannot be read: {line[0]}") from error

    def identity(self) -> str:
        """A hash of the data set's content or commit, configuration, split and column."""
        wanted = self._settings
        if self._folder is None:
            return digest(["dataset", self.name, self.revision, wanted.config, wanted.split, wanted.column])
        content = content_hash(file for file in sorted(self._folder.rglob("*")) if file.is_file())
        return digest(["dataset", content, wanted.config, wanted.split, wanted.column])

    def progress(self) -> float | None:
        """None: a stream's length is not known."""
        return None

    def _rows(self) -> Any:
        try:
            from datasets import DatasetDict, load_dataset, load_from_disk
        except ModuleNotFoundError as error:
            raise MissingDependency('a Hugging Face corpus needs the package "datasets"') from error
        wanted = self._settings
        if self._folder is not None and any((self._folder / name).is_file() for name in _SAVED):
            found = load_from_disk(str(self._folder))
            if not isinstance(found, DatasetDict):
                return found
            if wanted.split not in found:
                known = ", ".join(map(str, found))
                raise CorpusError(f'{self.name}: there is no split "{wanted.split}"; splits here: {known}')
            return found[wanted.split]
        where = str(self._folder or self.name)
        return load_dataset(where, wanted.config, split=wanted.split, streaming=True, revision=self.revision)

    def _resolved(self) -> str | None:
        from huggingface_hub import HfApi

        try:
            return HfApi().dataset_info(self.name, revision=self._settings.revision).sha
        except Exception as error:
            line = str(error).strip().splitlines() or [type(error).__name__]
            raise CorpusError(
                f"{self.name}: there is no such folder, and the Hugging Face Hub has no answer for this data set: "
                f"{line[0]}"
            ) from error
