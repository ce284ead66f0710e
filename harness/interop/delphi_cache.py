"""delphi's activation caches, of its first releases and of now, as stores of all the text that was read."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from harness.errors import FormatError
from harness.interop.building import building, documents_between
from harness.interop.cache_tokens import Text, cache_text
from harness.interop.documents import decoded
from harness.interop.tensors import open_tensors
from harness.store import CoderFrame, ManifestFrame, Rows, Store, StoreWriter

__all__ = ["import_cache", "recognised"]

# positions read at once: of each shard only what fires there is in memory
_BLOCK: Final = 1 << 16
_SCAN: Final = 1 << 20
_SHARD = re.compile(r"(\d+)_(\d+)\.safetensors")
_NEEDED = frozenset({"locations", "activations"})


def recognised(source: Path) -> bool:
    """Whether a folder is a cache: it, or one below it, has safetensors files of locations and activations."""
    return source.is_dir() and any(True for _ in _shard_files(source))


def import_cache(
    source: Path,
    out: Path,
    *,
    tokenizer: str | None,
    tokens: Path | None = None,
    model: str | None = None,
    tell: Callable[[int, int], None] = lambda _done, _total: None,
) -> Store:
    """Write a cache as a store at `out`, every hookpoint of it as a coder; reads it block by block of its rows.

    Each row is a document of its own, and special tokens inside it part documents: caches do not say where texts end.
    What is stored on special tokens, and what is negative, is dropped and counted.

    Raises:
        FormatError: the cache is broken, of two models, without tokens or a tokenizer to read them.
        StoreError: there is something at `out`.
    """
    with ExitStack() as stack:
        hookpoints = _hookpoints(source, stack)
        config = _config(hookpoints)
        named = model or config.get("model_name")
        if not named:
            raise FormatError(f"{source}: the cache does not say of which model it is (no config.json); give --model")
        text = cache_text(source, [shard.tokens for h in hookpoints for shard in h.shards], tokenizer, tokens)
        frame = ManifestFrame(
            model=named,
            corpus={"cache": "delphi", **{key: value for key, value in config.items() if key != "model_name"}},
            context=text.context,
            value_dtype="float32" if any(shard.wide for h in hookpoints for shard in h.shards) else "float16",
            threshold="|value| > 1e-5 and value > 0",
        )
        frames = [CoderFrame(h.coder, h.shards[-1].stop, h.name) for h in hookpoints]
        for hookpoint in hookpoints:
            for shard in hookpoint.shards:
                shard.check(text)
        with building(out) as folder, StoreWriter.create(folder, frame, text.vocabulary, frames) as writer:
            try:
                writer.finish(_copy(writer, text, hookpoints, tell))
            except ValueError as error:  # what the writer finds wrong with rows
                raise FormatError(f"{source}: the cache is broken: {error}") from error
    return Store.open(out)


def _copy(
    writer: StoreWriter, text: Text, hookpoints: Sequence[_Hookpoint], tell: Callable[[int, int], None]
) -> dict[str, int]:
    counts: Counter[str] = Counter(negative_values_dropped=0, firings_on_special_tokens_dropped=0)
    step = max(1, _BLOCK // text.context)
    for start in range(0, text.rows, step):
        ids = text.read(start, min(start + step, text.rows))
        special = np.isin(ids, text.specials)
        fired = {h.coder: h.rows(start, ids.shape, special, counts) for h in hookpoints}
        writer.append(ids, documents_between(special, start), fired)
        tell(start + len(ids), text.rows)
    return dict(counts)


@dataclass(frozen=True, slots=True)
class _Hookpoint:
    """A hookpoint's shards in the order of their latents; they cover latents 0 to the last one's end."""

    name: str
    coder: str
    folder: Path
    shards: tuple[_Shard, ...]

    def rows(self, start: int, shape: tuple[int, ...], special: NDArray[np.bool_], counts: Counter[str]) -> Rows:
        """What fires in the `shape` positions of the contexts from `start` on."""
        read = [shard.read(start, start + shape[0], shape[1]) for shard in self.shards]
        positions, latents, values = (np.concatenate(column) for column in zip(*read, strict=True))
        positions -= start * shape[1]
        on_special = special.reshape(-1)[positions]
        counts["negative_values_dropped"] += int((values < 0).sum())
        counts["firings_on_special_tokens_dropped"] += int((on_special & (values > 0)).sum())
        kept = (values > 0) & ~on_special
        positions, latents, values = positions[kept], latents[kept], values[kept]
        order = np.argsort(positions, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(positions, minlength=special.size))])
        return Rows(indptr.astype(np.int64), latents[order], values[order])


class _Shard:
    """One file of a hookpoint: what fires of latents `start` to `stop`, in the order of the rows."""

    def __init__(self, path: Path, start: int, stop: int | None, stack: ExitStack) -> None:
        self.path = path
        tensors = open_tensors(path, stack)
        if not tensors.keys() >= _NEEDED:
            raise FormatError(f"{path}: it has {', '.join(tensors)}, and should have locations and activations")
        self.locations = tensors["locations"]
        self.activations = tensors["activations"]
        self.tokens = (path, tensors["tokens"]) if "tokens" in tensors else None
        shape, values = self.locations.shape, self.activations.shape
        if len(shape) != 2 or shape[1] != 3 or values != shape[:1]:
            raise FormatError(
                f"{path}: locations have shape {list(shape)} and activations {list(values)}, "
                "and should have [n, 3] and [n]: row, position and latent of each"
            )
        self.size: int = shape[0]
        self.wide: bool = self.activations.dtype != "F16"
        self.start = start
        self._stop = stop
        self._order: tuple[NDArray[Any], NDArray[Any]] | None = None
        self._last, self._least, self._most = self._scan()
        self.stop: int = self._most + 1 if stop is None else stop
        self._from_start = stop is not None and self._counts_from(start, stop)

    def check(self, text: Text) -> None:
        """Whether locations lie in the text and in the shard's own latents.

        Raises:
            FormatError: one does not.
        """
        first = self.start if self._from_start else 0
        if self.size and (first + self._most >= self.stop or first + self._least < self.start):
            raise FormatError(
                f"{self.path}: it should hold latents {self.start} to {self.stop - 1} and has {first + self._least} to "
                f"{first + self._most}"
            )
        if self._last >= text.rows:
            raise FormatError(
                f"{self.path}: it has activations in row {self._last}, and there are tokens of {text.rows} rows"
            )

    def read(self, start: int, stop: int, context: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
        """Positions (row * context + place), latents and values of rows `start` to `stop`."""
        first, last = (bisect_left(_Rows(self), row) for row in (start, stop))
        found, values = self._part(first, last)
        wide = found.astype(np.int64)
        if len(wide) and wide[:, 1].max() >= context:
            raise FormatError(f"{self.path}: it has position {wide[:, 1].max()}, and rows have {context}")
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            row, place, latent = wide[bad[0]].tolist()
            latent += self.start if self._from_start else 0
            raise FormatError(
                f"{self.path}: the activation of latent {latent} in row {row}, position {place} is {values[bad[0]]}, "
                "and should be a number"
            )
        return wide[:, 0] * context + wide[:, 1], wide[:, 2] + (self.start if self._from_start else 0), values

    def row(self, place: int) -> int:
        """The row of the entry at a place."""
        part = self.locations[place : place + 1] if self._order is None else self._order[0][place : place + 1]
        return int(part[0, 0])

    def _counts_from(self, start: int, stop: int) -> bool:
        """Whether latents are counted from the shard's first, as now, or from 0, as in the first releases."""
        if self._least < start or self._most >= stop - start:
            return self._least < start
        # both could be; the first releases wrote signed numbers
        return self.locations.dtype.startswith("U")

    def _part(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[Any]]:
        if self._order is not None:
            return self._order[0][first:last], self._order[1][first:last]
        return self.locations[first:last], self.activations[first:last]

    def _scan(self) -> tuple[int, int, int]:
        """The largest row and the range of latents; a file out of order is sorted, which takes it into memory."""
        last, least, most, sorted_ = -1, np.iinfo(np.int64).max, -1, True
        for start in range(0, self.size, _SCAN):
            part = self.locations[start : start + _SCAN].astype(np.int64)
            if part.min() < 0:
                raise FormatError(f"{self.path}: locations have negative numbers")
            sorted_ = sorted_ and part[0, 0] >= last and bool((np.diff(part[:, 0]) >= 0).all())
            last = max(last, int(part[:, 0].max()))
            least, most = min(least, int(part[:, 2].min())), max(most, int(part[:, 2].max()))
        if not sorted_:
            locations, activations = self.locations[:], self.activations[:]
            order = np.argsort(locations[:, 0], kind="stable")
            self._order = locations[order], activations[order]
        return last, (0 if most < 0 else int(least)), most


class _Rows:
    """The rows of a shard's entries as a sequence, to search in."""

    def __init__(self, shard: _Shard) -> None:
        self._shard = shard

    def __len__(self) -> int:
        return self._shard.size

    def __getitem__(self, place: int) -> int:
        return self._shard.row(place)


def _shard_files(source: Path) -> Iterator[Path]:
    for path in sorted(source.rglob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                if set(file.keys()) >= _NEEDED:
                    yield path
        except (OSError, SafetensorError):
            # cut short, but a cache's file by its name: told when it is read
            if _SHARD.fullmatch(path.name):
                yield path


def _hookpoints(source: Path, stack: ExitStack) -> list[_Hookpoint]:
    base = source / "latents" if (source / "latents").is_dir() else source
    folders: dict[Path, list[Path]] = {}
    for path in _shard_files(source):
        # a file of a whole hookpoint is called after it
        folders.setdefault(path.parent if _SHARD.fullmatch(path.name) else path.with_suffix(""), []).append(path)
    found: list[_Hookpoint] = []
    for folder, files in sorted(folders.items()):
        name = folder.relative_to(base).as_posix() if folder != base else folder.name
        coder = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "latents"
        if any(other.coder == coder for other in found):
            raise FormatError(f"{folder}: two hookpoints of the cache would both be called {coder}")
        found.append(_Hookpoint(name, coder, folder, _shards(folder, files, stack)))
    return found


def _shards(folder: Path, files: Sequence[Path], stack: ExitStack) -> tuple[_Shard, ...]:
    made = []
    for path in files:
        match = _SHARD.fullmatch(path.name)
        # the second number is the last latent in the file
        start, stop = (int(match[1]), int(match[2]) + 1) if match else (0, None)
        made.append(_Shard(path, start, stop, stack))
    made.sort(key=lambda shard: shard.start)
    expected = 0
    for shard in made:
        if shard.start != expected:
            raise FormatError(f"{folder}: latents {expected} to {shard.start - 1} have no file, or two files overlap")
        expected = shard.stop
    return tuple(made)


def _config(hookpoints: Sequence[_Hookpoint]) -> dict[str, Any]:
    """What the cache's own settings say, equal for all hookpoints."""
    found: dict[str, Any] = {}
    first: Path | None = None
    for hookpoint in hookpoints:
        file = hookpoint.folder / "config.json"
        if not file.is_file():
            continue
        config = decoded(file.read_bytes(), dict[str, Any], str(file))
        if first is not None and config.get("model_name") != found.get("model_name"):
            raise FormatError(
                f'{file}: this cache is of model "{config.get("model_name")}" and that of {first} is of '
                f'"{found.get("model_name")}": import one model at a time'
            )
        if first is None:
            found, first = config, file
    return found
