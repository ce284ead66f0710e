"""A finished store's folder, whose files are those that were written."""

from __future__ import annotations

from pathlib import Path

from harness.errors import StoreError
from harness.store.files import checksum
from harness.store.format import Manifest

__all__ = ["CheckedFiles"]


class CheckedFiles:
    """The files that a manifest lists, each with the checksum that it was written with."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._checked: set[str] = set()

    def verify(self) -> None:
        """Compare every file with the checksum it was written with; reads the whole store.

        Raises:
            StoreError: a file is missing or corrupt; the message names it.
        """
        for name in self.manifest.files:
            self.check_file(name)

    def check_once(self, name: str) -> None:
        """As `check_file`, the first time it is asked for.

        Raises:
            StoreError: it is missing or corrupt.
        """
        if name not in self._checked:
            self.check_file(name)
            self._checked.add(name)

    def check_file(self, name: str) -> None:
        """Compare one file, named by its path inside the store, with its checksum.

        Raises:
            StoreError: it is missing or corrupt.
        """
        record, path = self.manifest.files.get(name), self.path / name
        if record is None:
            raise StoreError(f"{self.path / 'manifest.json'} is corrupt: it does not list {name}")
        if checksum(path) != record.crc32:
            raise StoreError(f"{path} is corrupt: not the bytes that were written; collect the store again")
