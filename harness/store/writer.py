"""Writes a store: rows in token order, in segments, compacted at the end; resumable at any moment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError
from harness.store.buffer import Buffer
from harness.store.compact import compact
from harness.store.files import (
    checksum,
    open_array,
    placed,
    sync_folder,
    write_array,
    write_chunks,
    write_json,
)
from harness.store.format import (
    CoderFrame,
    CoderManifest,
    FileRecord,
    Manifest,
    ManifestFrame,
    Observed,
    Rows,
    coder_folder,
    read_manifest,
)
from harness.store.lock import FolderLock, take, writing
from harness.store.observing import check_observed
from harness.store.reader import Store
from harness.store.rows import Stretch, write_rows
from harness.store.segments import Segment, check_segments, list_segments, write_segment
from harness.store.vocabulary import Vocabulary

__all__ = ["SEGMENT_NONZEROS", "StoreWriter"]

SEGMENT_NONZEROS = 1 << 22
SEGMENT_TOKENS = 1 << 20
_OURS = {".lock", ".lock.pid", "vocabulary.json", "vocabulary.json.tmp", "manifest.json.tmp", "coders"}


class StoreWriter:
    """Appends contexts to a store and finishes it; holds the store's lock until `finish` or `close`.

    A writer that is killed loses what it held in memory (at most a segment) and nothing on disk: `resume` goes on
    at `next_context`. Made by `create`, `resume` or `begin`.
    """

    def __init__(
        self, path: Path, manifest: Manifest, lock: FolderLock, segment: tuple[int, int], start: int = 0
    ) -> None:
        self._path = path
        self._manifest = manifest
        self._lock = lock
        self._segment_nonzeros, self._segment_tokens = segment
        self._start = start
        self._segments = list_segments(path / "segments", start)
        self._dtype = np.dtype(manifest.frame.value_dtype).newbyteorder("<")
        self._held = {coder.name: Buffer(coder, self._dtype) for coder in manifest.coders}
        self.next_context: int = self._segments[-1].stop if self._segments else start
        self._clear()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        manifest: ManifestFrame,
        vocabulary: Vocabulary,
        coders: Sequence[CoderFrame],
        *,
        segment_nonzeros: int = SEGMENT_NONZEROS,
        segment_tokens: int = SEGMENT_TOKENS,
        start: int = 0,
    ) -> StoreWriter:
        """Start a store in a new or empty folder.

        A segment is written once it holds `segment_nonzeros` activations of a coder, eight times as many of all
        coders (6 to 12 bytes of memory each) or `segment_tokens` tokens. With `start` these are the segments of a store
        from that context on, to be moved to those before; they are no store by themselves.

        Raises:
            StoreError: the folder holds something, is being written, or two coders share a name.
        """
        folder = Path(path)
        described = _describe(manifest, coders)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _taken(folder) as lock:
            _begin(folder, described, vocabulary, coders)
            return cls(folder, described, lock, (segment_nonzeros, segment_tokens), start)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        manifest: ManifestFrame,
        coders: Sequence[CoderFrame],
        *,
        segment_nonzeros: int = SEGMENT_NONZEROS,
        segment_tokens: int = SEGMENT_TOKENS,
        start: int = 0,
    ) -> StoreWriter:
        """Go on with a store that was not finished.

        Raises:
            StoreError: there is no such store, it is finished, being written, broken, or was begun with another
                configuration.
        """
        folder = Path(path)
        wanted = _describe(manifest, coders)
        read_manifest(folder)
        with _taken(folder) as lock:
            found = _unfinished(folder)
            if found.config != wanted.config:
                changed = ", ".join(_differences(found, wanted))
                raise StoreError(
                    f"{folder} was begun with another configuration ({changed}): delete it or choose another folder"
                )
            # rows may be wanted now that were not before, or no longer: they are written at the end
            now = found.model_copy(update={"coders": wanted.coders})
            return cls(folder, now, lock, (segment_nonzeros, segment_tokens), start)

    @classmethod
    def begin(
        cls,
        path: str | os.PathLike[str],
        manifest: ManifestFrame,
        vocabulary: Vocabulary,
        coders: Sequence[CoderFrame],
        *,
        segment_nonzeros: int = SEGMENT_NONZEROS,
        segment_tokens: int = SEGMENT_TOKENS,
        start: int = 0,
    ) -> StoreWriter:
        """Resume the store in a folder if one was begun there, else create it.

        Raises:
            StoreError: as `create` and `resume`.
        """
        limits = {"segment_nonzeros": segment_nonzeros, "segment_tokens": segment_tokens, "start": start}
        if (Path(path) / "manifest.json").exists():
            return cls.resume(path, manifest, coders, **limits)
        return cls.create(path, manifest, vocabulary, coders, **limits)

    @classmethod
    def reopen(cls, path: str | os.PathLike[str]) -> StoreWriter:
        """Go on with a store that was not finished, as it was begun.

        Raises:
            StoreError: there is no such store, it is finished, being written or broken.
        """
        folder = Path(path)
        read_manifest(folder)
        with _taken(folder) as lock:
            return cls(folder, _unfinished(folder), lock, (SEGMENT_NONZEROS, SEGMENT_TOKENS))

    def append(self, tokens: NDArray[Any], documents: NDArray[Any], rows: Mapping[str, Rows]) -> None:
        """Add contexts after `next_context`.

        Args:
            tokens: ids, uint32 `[contexts, positions]`.
            documents: the document of each position, int32 `[contexts, positions]`, -1 for what was put in.
            rows: for every coder what fired at each position of these contexts, in the same order.

        Raises:
            ValueError: shapes do not fit, a value is not finite or not above zero, or a latent is out of range.
            StoreError: a value does not fit float16.
        """
        self._check(tokens, documents, rows)
        self._tokens.append(np.array(tokens, dtype=np.uint32))
        self._documents.append(np.array(documents, dtype=np.int32))
        for coder in self._manifest.coders:
            self._held[coder.name].append(rows[coder.name])
        self.next_context += len(tokens)
        nonzeros, held = [len(buffer) for buffer in self._held.values()], sum(part.size for part in self._tokens)
        full = max(nonzeros, default=0) >= self._segment_nonzeros or sum(nonzeros) >= 8 * self._segment_nonzeros
        if full or held >= self._segment_tokens:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a segment: a later `resume` goes on from here."""
        if self._tokens:
            with writing(self._path):
                self._flush()

    def finish(
        self, counts: Mapping[str, int] | None = None, *, observed: Mapping[str, Observed] | None = None
    ) -> Store:
        """Write what is left, compact, and open the finished store.

        Args:
            counts: counts of the collection worth keeping, such as tokens dropped.
            observed: where the latents of each partial coder, and of no other, were observed.

        Raises:
            StoreError: nothing was appended, or a segment is corrupt.
            ValueError: `observed` does not fit the partial coders, or one fires where it was not observed.
        """
        partial = {coder.name for coder in self._manifest.coders if coder.partial}
        if set(observed or ()) != partial:
            raise ValueError(f"observed tells of {sorted(observed or ())} where {sorted(partial)} are partial")
        with writing(self._path):
            self._finish(counts or {}, observed or {})
        self.close()
        return Store.open(self._path)

    def close(self) -> None:
        """Let the store go without finishing it; what is not in a segment yet is lost."""
        self._clear()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _clear(self) -> None:
        self._tokens: list[NDArray[np.uint32]] = []
        self._documents: list[NDArray[np.int32]] = []
        for buffer in self._held.values():
            buffer.clear()

    def _check(self, tokens: NDArray[Any], documents: NDArray[Any], rows: Mapping[str, Rows]) -> None:
        context = self._manifest.frame.context
        if tokens.ndim != 2 or tokens.shape[1] != context or documents.shape != tokens.shape:
            raise ValueError(f"tokens {tokens.shape} and documents {documents.shape} should be [contexts, {context}]")
        if set(rows) != set(self._held):
            raise ValueError(f"rows of {sorted(rows)} given where {sorted(self._held)} were expected")
        if (self.next_context + len(tokens)) * context > np.iinfo(np.uint32).max:
            raise StoreError("a store of format version 1 holds at most 4,294,967,295 tokens")
        for name, part in rows.items():
            if len(part.indptr) != tokens.size + 1 or len(part.latents) != len(part.values):
                raise ValueError(f'rows of "{name}" do not fit {tokens.size} positions')
            if part.indptr[0] != 0 or part.indptr[-1] != len(part.latents) or (np.diff(part.indptr) < 0).any():
                raise ValueError(f'rows of "{name}" have an indptr that does not cover them')

    def _flush(self) -> None:
        start = self._segments[-1].stop if self._segments else self._start
        tokens, documents = np.concatenate(self._tokens), np.concatenate(self._documents)
        first = start * self._manifest.frame.context
        # one coder after the other: no two are in memory twice
        columns = ((name, buffer.columns(first)) for name, buffer in self._held.items())
        self._segments.append(write_segment(self._path / "segments", start, tokens, documents, columns))
        self._clear()

    def _finish(self, counts: Mapping[str, int], observed: Mapping[str, Observed]) -> None:
        self.flush()
        if not self._segments:
            raise StoreError(f"{self._path} has no contexts: nothing was collected")
        check_segments(self._segments)
        records: dict[str, FileRecord] = {}
        records |= self._record({"vocabulary.json": checksum(self._path / "vocabulary.json")})
        records |= self._record(self._join_tokens())
        for coder in self._manifest.coders:
            records |= self._record(self._join_coder(coder))
            if coder.partial:
                records |= self._record(self._write_observed(coder, observed[coder.name]))
        done = self._manifest.model_copy(
            update={
                "finished": True,
                "n_contexts": self.next_context,
                "nonzeros": {name: sum(s.nonzeros[name] for s in self._segments) for name in self._held},
                "counts": dict(counts),
                "files": dict(sorted(records.items())),
            }
        )
        write_json(self._path / "manifest.json", done.model_dump(mode="json"))

    def _join_tokens(self) -> dict[str, int]:
        shape = (self.next_context, self._manifest.frame.context)
        crc = {}
        for name, dtype, read in (("tokens", "<u4", Segment.tokens), ("documents", "<i4", Segment.documents)):
            temporary = self._path / f"{name}.npy.tmp"
            chunks = (read(segment, shape[1]) for segment in self._segments)
            crc[f"{name}.npy"] = write_chunks(temporary, np.dtype(dtype), shape, chunks)
            temporary.replace(self._path / f"{name}.npy")
        sync_folder(self._path)
        return crc

    def _join_coder(self, coder: CoderManifest) -> dict[str, int]:
        context, folder = self._manifest.frame.context, coder_folder(self._path, coder.name)
        tokens = open_array(self._path / "tokens.npy", "<u4", (self.next_context, context)).reshape(-1)
        parts = [segment.part(coder.name, self._dtype) for segment in self._segments]
        with placed(folder / "csc") as target:
            crc, tally = compact(parts, tokens, coder.n_latents, context, target)
        named = {f"csc/{name}": value for name, value in crc.items()}
        with placed(folder / "statistics") as target:
            for name, array in tally.arrays.items():
                named[f"statistics/{name}.npy"] = write_array(target / f"{name}.npy", array)
        if coder.rows:
            nonzeros = sum(part.nonzeros for part in parts)
            with placed(folder / "rows") as target:
                crc = write_rows(self._stretches(coder), len(tokens), nonzeros, target)
            named |= {f"rows/{name}": value for name, value in crc.items()}
        if coder.decoder is not None:
            named["decoder.npy"] = checksum(folder / "decoder.npy")
        return {f"coders/{coder.name}/{name}": value for name, value in named.items()}

    def _stretches(self, coder: CoderManifest) -> Iterator[Stretch]:
        context = self._manifest.frame.context
        for segment in self._segments:
            columns = segment.part(coder.name, self._dtype).columns(coder.n_latents)
            yield Stretch(segment.start * context, segment.stop * context, columns)

    def _write_observed(self, coder: CoderManifest, observed: Observed) -> dict[str, int]:
        parts = [segment.part(coder.name, self._dtype) for segment in self._segments]
        check_observed(coder, observed, parts, self._manifest.frame.context, self.next_context)
        indptr, contexts = observed.indptr.astype("<i8"), observed.contexts.astype("<i8")
        folder = coder_folder(self._path, coder.name)
        inside = f"coders/{coder.name}"
        return {
            f"{inside}/observed-indptr.npy": write_array(folder / "observed-indptr.npy", indptr),
            f"{inside}/observed-contexts.npy": write_array(folder / "observed-contexts.npy", contexts),
        }

    def _record(self, crc: Mapping[str, int]) -> dict[str, FileRecord]:
        return {name: FileRecord(bytes=(self._path / name).stat().st_size, crc32=value) for name, value in crc.items()}


@contextmanager
def _taken(folder: Path) -> Iterator[FolderLock]:
    """The folder's lock, which whoever made a writer of it keeps; let go where none came about."""
    with writing(folder):
        lock = take(folder)
        try:
            yield lock
        except BaseException:
            lock.release()
            raise


def _unfinished(folder: Path) -> Manifest:
    found = read_manifest(folder)
    if found.finished:
        raise StoreError(f"{folder} is finished: open it, or choose another folder")
    return found


def _describe(frame: ManifestFrame, coders: Sequence[CoderFrame]) -> Manifest:
    names = [coder.name for coder in coders]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise StoreError(f'two coders are called "{doubled[0]}": names have to differ')
    return Manifest(frame=frame, coders=tuple(coder.manifest() for coder in coders))


def _begin(folder: Path, described: Manifest, vocabulary: Vocabulary, coders: Sequence[CoderFrame]) -> None:
    if (folder / "manifest.json").exists():
        raise StoreError(f"{folder} already holds a store: resume it or choose another folder")
    if any(entry.name not in _OURS for entry in folder.iterdir()):
        raise StoreError(f"{folder} is not empty and holds no store: choose another folder")
    write_json(folder / "vocabulary.json", vocabulary.as_json())
    for coder in coders:
        _write_decoder(folder, coder)
    write_json(folder / "manifest.json", described.model_dump(mode="json"))


def _differences(found: Manifest, wanted: Manifest) -> list[str]:
    before, after = found.frame.model_dump(exclude={"versions"}), wanted.frame.model_dump(exclude={"versions"})
    changed = [key for key in before if before[key] != after[key]]
    return changed + (["coders"] if found.coders != wanted.coders else [])


def _write_decoder(folder: Path, coder: CoderFrame) -> None:
    target = coder_folder(folder, coder.name)
    target.mkdir(parents=True, exist_ok=True)
    if coder.decoder is None:
        return
    with np.errstate(over="ignore", under="ignore"):
        narrow = np.asarray(coder.decoder).astype("<f2")
    if not np.isfinite(narrow).all():
        raise StoreError(f'coder "{coder.name}": its decoder has values that are not finite in float16')
    write_array(target / "decoder.npy", narrow)
    sync_folder(target)
