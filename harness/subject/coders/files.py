"""A coder's files: where they are, and what tensors and settings are in them, told by content and never by name."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.errors import CoderError
from harness.subject.models import content_hash
from harness.subject.safetensors_header import tensor_shapes
from harness.task import CoderSettings

if TYPE_CHECKING:
    import torch

__all__ = ["CoderFiles", "ConfigFile", "TensorFile", "find_files"]

_Kind = Literal["safetensors", "npz", "torch", "pointer", "truncated"]
Shapes = Mapping[str, tuple[int, ...]]

# Longer JSON files are token lists and the like, no settings.
_LONGEST_CONFIG = 2**20
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A JSON file that holds an object."""

    path: Path
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A file of named tensors; nested names are joined by dots. `extras` are plain values beside them."""

    path: Path
    kind: Literal["safetensors", "npz", "torch"]
    shapes: Shapes
    extras: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The tensors of these names, in float32 on the CPU.

        Raises:
            CoderError: one holds values that are not finite.
        """
        import torch

        found = {name: tensor.to(torch.float32) for name, tensor in self._read(set(names)).items()}
        broken = sorted(name for name, tensor in found.items() if not bool(tensor.isfinite().all()))
        if broken:
            raise CoderError(f"{self.path}: {broken[0]} holds values that are not finite")
        return found

    def _read(self, names: set[str]) -> dict[str, torch.Tensor]:
        import torch

        if self.kind == "torch":
            return {name: value for name, value in _torch_values(self.path).items() if name in names}
        if self.kind == "npz":
            with np.load(self.path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in names}
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}


@dataclass(frozen=True, slots=True)
class CoderFiles:
    """What lies at a coder's path: files of tensors, settings, and sentences on what could not be read.

    `commit` and `subfolder` are those of the Hub, empty for a local path.
    """

    where: str
    tensors: tuple[TensorFile, ...]
    configs: tuple[ConfigFile, ...]
    unread: tuple[str, ...]
    commit: str = ""
    subfolder: str = ""

    def revision(self, used: Iterable[Path]) -> str:
        """What tells these files from any other: a hash of their content, or the Hub's commit and folder."""
        return f"{self.commit}:{self.subfolder}" if self.commit else content_hash(used)

    def listing(self) -> str:
        """What was found, in words."""
        parts = [f"{config.path.name} with the keys {', '.join(map(str, config.value))}" for config in self.configs]
        for file in self.tensors:
            shapes = ", ".join(f"{name} {list(shape)}" for name, shape in file.shapes.items())
            parts.append(f"{file.path.name} with the tensors {shapes or '(none)'}")
        return "; ".join([*parts, *self.unread]) or "nothing"


def find_files(settings: CoderSettings, base: Path, commit: str | None = None) -> CoderFiles:
    """What lies at `settings.path`: a folder or file relative to `base`, or `repository:folder` on the Hub.

    A folder's own files count, and those one level down where it holds no tensors itself.

    Raises:
        CoderError: there is nothing, or no file of tensors among it.
    """
    path = settings.path or ""
    place = (base / Path(path).expanduser()).resolve()
    if place.exists():
        return _read(settings, place, place)
    repository, colon, subfolder = path.partition(":")
    if not colon or path.startswith((".", "/", "~")):
        raise CoderError(
            f'coder "{settings.name}": no such folder: {place}; path is a folder or file, '
            "or repository:folder on the Hugging Face Hub"
        )
    subfolder = subfolder.strip("/")
    snapshot = _snapshot(settings, repository, subfolder, commit)
    return _read(settings, snapshot / subfolder, snapshot, snapshot.name, subfolder)


def _snapshot(settings: CoderSettings, repository: str, subfolder: str, commit: str | None) -> Path:
    """The folder of a Hub repository's commit that holds the subfolder's files, fetched where they are not cached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    inside = f"{subfolder}/" if subfolder else ""
    try:
        found = Path(
            snapshot_download(
                repository, revision=commit, allow_patterns=[subfolder, f"{inside}*"], ignore_patterns=[f"{inside}*/*"]
            )
        )
        place = found / subfolder
        if place.is_dir() and any(place.glob("*.json")) and not any(map(_kind, _children(place))):
            # settings here and weights below: a few formats put them into a folder of their own
            snapshot_download(
                repository, revision=found.name, allow_patterns=[f"{inside}*/*"], ignore_patterns=[f"{inside}*/*/*"]
            )
    except LocalEntryNotFoundError as problem:
        raise CoderError(
            f'coder "{settings.name}": {repository} is not in the local cache and the Hugging Face Hub is not reached'
        ) from problem
    except (HfHubHTTPError, ValueError, OSError) as problem:
        line = str(problem).strip().splitlines() or [type(problem).__name__]
        raise CoderError(
            f'coder "{settings.name}": {repository} cannot be fetched from the Hugging Face Hub: {line[0]}'
        ) from problem
    if not place.exists():
        raise CoderError(f'coder "{settings.name}": the Hugging Face repository {repository} has no "{subfolder}"')
    return found


def _read(settings: CoderSettings, place: Path, shown: Path, commit: str = "", subfolder: str = "") -> CoderFiles:
    beside = place.parent if place.is_file() else place
    paths = [place] if place.is_file() else _children(place)
    if place.is_dir() and not any(map(_kind, paths)):
        paths += [path for folder in sorted(place.iterdir()) if folder.is_dir() for path in _children(folder)]
    near = {*_children(beside), *paths} | ({*_children(beside.parent)} if place.is_file() else set())
    tensors: list[TensorFile] = []
    unread: list[str] = []
    for path in paths:
        kind = _kind(path)
        if kind is None:
            continue
        try:
            tensors.append(_tensor_file(path, kind))
        except CoderError as error:
            unread.append(str(error))
    configs = [found for path in sorted(near) if (found := _config(path)) is not None]
    if not tensors:
        raise CoderError(
            "; ".join(unread) or f'coder "{settings.name}": {place} holds no file of tensors (safetensors, npz or .pt)'
        )
    return CoderFiles(str(shown), tuple(tensors), tuple(configs), tuple(unread), commit, subfolder)


def _children(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _kind(path: Path) -> _Kind | None:
    """What a file of tensors is by its first bytes; None for any other file."""
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if start == _POINTER:
        return "pointer"
    if start[:4] == b"PK\x03\x04":
        if not zipfile.is_zipfile(path):
            return "truncated"
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if names and all(name.endswith(".npy") for name in names):
            return "npz"
        return "torch" if any(name.endswith("data.pkl") for name in names) else None
    if start[:1] == b"\x80":
        return "torch"
    # an empty or cut off file has no content that tells what it was
    return "safetensors" if start[8:9] == b"{" or path.suffix == ".safetensors" else None


def _tensor_file(path: Path, kind: _Kind) -> TensorFile:
    if kind == "truncated":
        raise CoderError(f"{path}: this file is truncated: an archive whose end is missing")
    if kind == "pointer":
        raise CoderError(f"{path}: a Git LFS pointer: the file itself was not downloaded")
    if kind == "safetensors":
        return TensorFile(path, kind, tensor_shapes(path))
    if kind == "npz":
        return TensorFile(path, kind, _npz_shapes(path))
    import torch

    values = _torch_values(path)
    shapes = {name: tuple(value.shape) for name, value in values.items() if isinstance(value, torch.Tensor)}
    extras = {name: value for name, value in values.items() if not isinstance(value, torch.Tensor)}
    return TensorFile(path, kind, shapes, extras)


def _npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Each array's shape, from its header alone."""
    found: dict[str, tuple[int, ...]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    version = np.lib.format.read_magic(file)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read(file)
                if dtype.hasobject:
                    raise CoderError(f"{path}: {name} holds pickled Python objects, and is refused")
                found[name.removesuffix(".npy")] = shape
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise CoderError(f"{path}: not a valid npz file: {error}") from error
    return found


def _torch_values(path: Path) -> dict[str, Any]:
    """Tensors and plain values of a file of `torch.save`, nested names joined by dots; nothing in it is run."""
    import pickle
    import warnings

    import torch

    try:
        with warnings.catch_warnings():
            # of pickles in a protocol that torch does not write: they are read or refused all the same
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CoderError(
            f"{path}: this pickle holds more than tensors and plain values, and is refused: such a file can run code"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise CoderError(f"{path}: not a valid file of torch.save: {str(error).splitlines()[0]}") from error
    return _flat(loaded) if isinstance(loaded, Mapping) else {}


def _flat(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _config(path: Path) -> ConfigFile | None:
    """A JSON object, or None for any other file.

    Raises:
        CoderError: the file is called JSON and is not.
    """
    if path.suffix != ".json" or path.stat().st_size > _LONGEST_CONFIG:
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CoderError(f"{path}: not valid JSON: {error}") from error
    return ConfigFile(path, value) if isinstance(value, dict) else None
