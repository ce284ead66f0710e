"""Segments: finished, immutable stretches of a store that is being written, sorted by latent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError
from harness.store.files import checksum, open_array, read_stretch, sync_folder, write_array, write_json

__all__ = [
    "Columns",
    "Part",
    "Segment",
    "check_segments",
    "continue_with",
    "list_segments",
    "sort_by_latent",
    "write_segment",
]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What fired, as a CSC matrix `[positions, latents]`, the positions of each latent ascending.

    `indptr` is int64 `[latents + 1]`, `positions` uint32 and `values` float `[nonzeros]`.
    """

    indptr: NDArray[np.int64]
    positions: NDArray[np.uint32]
    values: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """A coder's part of a segment, read from the disk stretch by stretch: of however many, no file stays open."""

    folder: Path
    nonzeros: int
    value_dtype: np.dtype[Any]

    def edges(self, first: int, last: int) -> NDArray[np.int64]:
        """Where latents `first` to `last` begin, and where the last one ends, `[last - first + 1]`."""
        return read_stretch(self.folder / "indptr.npy", np.dtype("<i8"), first, last + 1)

    def positions(self, low: int, high: int) -> NDArray[np.uint32]:
        """Positions of nonzeros `low` to `high`; they count from the store's first token."""
        return read_stretch(self.folder / "positions.npy", np.dtype("<u4"), low, high)

    def values(self, low: int, high: int) -> NDArray[Any]:
        """Values of nonzeros `low` to `high`."""
        return read_stretch(self.folder / "values.npy", self.value_dtype, low, high)

    def columns(self, n_latents: int) -> Columns:
        """All of it."""
        every = (0, self.nonzeros)
        return Columns(self.edges(0, n_latents), self.positions(*every), self.values(*every))


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment on disk: contexts `start` to `stop`, and how many nonzeros it has of each coder."""

    path: Path
    start: int
    stop: int
    nonzeros: Mapping[str, int]

    def tokens(self, context: int) -> NDArray[np.uint32]:
        """Token ids, `[contexts, positions]`."""
        return open_array(self.path / "tokens.npy", "<u4", (self.stop - self.start, context))

    def documents(self, context: int) -> NDArray[np.int32]:
        """The document of each position, `[contexts, positions]`."""
        return open_array(self.path / "documents.npy", "<i4", (self.stop - self.start, context))

    def part(self, coder: str, value_dtype: np.dtype[Any]) -> Part:
        """A coder's part."""
        return Part(self.path / coder, self.nonzeros[coder], value_dtype)


def sort_by_latent(
    indptr: NDArray[np.int64],
    latents: NDArray[np.integer[Any]],
    values: NDArray[np.floating[Any]],
    n_latents: int,
    first: int,
) -> Columns:
    """Turn rows into columns; `first` is the position of row 0.

    Raises:
        ValueError: a latent fires twice at one position.
    """
    from scipy.sparse import csr_array  # here because importing it takes longer than opening a store

    # SciPy knows no float16; the values only travel, so their bits go as integers
    bits = values.view(np.uint16) if values.dtype == np.float16 else values.view(np.uint32)
    rows = len(indptr) - 1
    columns = csr_array((bits, latents, indptr), shape=(rows, n_latents)).tocsc()
    offsets = columns.indptr.astype(np.int64)
    places = columns.indices
    begins = np.zeros(len(places) + 1, dtype=bool)
    begins[offsets] = True
    if not begins[1:-1][places[1:] <= places[:-1]].all():
        raise ValueError("a latent fires twice at one position")
    positions = places.astype(np.int32, copy=False).view(np.uint32)
    positions += np.uint32(first)
    return Columns(offsets, positions, columns.data.view(values.dtype))


def write_segment(
    folder: Path,
    start: int,
    tokens: NDArray[np.uint32],
    documents: NDArray[np.int32],
    coders: Iterable[tuple[str, Columns]],
) -> Segment:
    """Write contexts from `start` on as a new segment: complete under its name, or not there."""
    temporary = folder / f"seg-{start:09d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    crc = {
        "tokens.npy": write_array(temporary / "tokens.npy", tokens),
        "documents.npy": write_array(temporary / "documents.npy", documents),
    }
    nonzeros = {}
    for name, columns in coders:
        nonzeros[name] = len(columns.positions)
        (temporary / name).mkdir()
        for kind in ("indptr", "positions", "values"):
            crc[f"{name}/{kind}.npy"] = write_array(temporary / name / f"{kind}.npy", getattr(columns, kind))
        sync_folder(temporary / name)
    stop = start + len(tokens)
    write_json(temporary / "segment.json", {"start": start, "stop": stop, "nonzeros": nonzeros, "crc32": crc})
    path = folder / f"seg-{start:09d}"
    temporary.rename(path)
    sync_folder(folder)
    return Segment(path, start, stop, nonzeros)


def list_segments(folder: Path, start: int = 0) -> list[Segment]:
    """The finished segments in order, from context `start` on; leftovers of an interrupted write are deleted.

    Raises:
        StoreError: a segment is broken, or the segments do not follow one another.
    """
    if not folder.is_dir():
        return []
    for leftover in folder.glob("*.tmp"):
        shutil.rmtree(leftover)
    found = [_read(path) for path in sorted(folder.glob("seg-*"))]
    expected = start
    for segment in found:
        if segment.start != expected:
            raise StoreError(f"{segment.path} starts at context {segment.start} where {expected} was expected")
        expected = segment.stop
    return found


def continue_with(folder: Path, start: int, others: Path) -> int:
    """Move segments here that lie elsewhere and continue what ends before context `start`: where they end.

    Both folders lie in one file system.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(others.glob("seg-*[0-9]")):
        segment = _read(path)
        if segment.start == start:
            path.rename(folder / path.name)
            start = segment.stop
    sync_folder(folder)
    return start


def check_segments(segments: Sequence[Segment]) -> None:
    """Compare every file of the segments with its checksum.

    Raises:
        StoreError: a file is missing or does not have the bytes that were written.
    """
    for segment in segments:
        for name, crc in _description(segment.path)["crc32"].items():
            if checksum(segment.path / name) != crc:
                raise StoreError(f"{segment.path / name} is corrupt: delete {segment.path} and those after it")


def _read(path: Path) -> Segment:
    raw = _description(path)
    return Segment(path, raw["start"], raw["stop"], raw["nonzeros"])


def _description(path: Path) -> dict[str, Any]:
    file = path / "segment.json"
    try:
        raw = json.loads(file.read_text("utf-8"))
        _ = raw["start"], raw["stop"], raw["nonzeros"], raw["crc32"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is missing or corrupt: delete {path} and the segments after it") from error
    return raw
