"""The store's format, version 1: the manifest, the frames it is made from and the rows a writer takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from harness.errors import StoreError
from harness.values import digest

__all__ = [
    "FORMAT",
    "VERSION",
    "CoderFrame",
    "CoderManifest",
    "FileRecord",
    "Manifest",
    "ManifestFrame",
    "Observed",
    "Rows",
    "coder_folder",
    "read_manifest",
]

FORMAT = "sae-acts"
VERSION = 1
# a tilde parts a coder's name from the control that was made for it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")
_DERIVED = re.compile(r"/(statistics|rows)/[^/]+$|/csc/checksums\.npy$")


class ManifestFrame(BaseModel):
    """What decides a store's content, known before anything is collected.

    `corpus` names the text and `collection` what bit-equality needs (batch shape, dtype, device, threads); both
    are free-form. `bos` is the token id that each row starts with, whose activations are dropped. `sampling` says
    whether the contexts are all of the text that was read, or were selected for what fires in them (published
    records), so that nothing can be counted as a share of the text. `versions` of libraries are recorded and decide
    nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    model_revision: str | None = None
    tokenizer: str | None = None
    corpus: dict[str, JsonValue]
    context: int = Field(ge=1)
    bos: int | None = None
    threshold: str = "value > 0"
    value_dtype: Literal["float16", "float32"] = "float16"
    position_dtype: Literal["uint32"] = "uint32"
    seed: int = 0
    sampling: Literal["all", "selected"] = "all"
    collection: dict[str, JsonValue] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class CoderManifest(BaseModel):
    """A coder as the manifest records it.

    `decoder` is the width of its decoder's rows, None where it has none; `partial` tells that its latents were not
    observed in every context, `rows` that it is kept by position, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    n_latents: int = Field(ge=1)
    hookpoint: str
    revision: str | None = None
    decoder: int | None = None
    partial: bool = False
    rows: bool = False

    @field_validator("name")
    @classmethod
    def _fits_a_folder(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f'a coder\'s name names a folder: "{name}" may hold letters, digits and . _ - ~ only')
        return name


class FileRecord(BaseModel):
    """A finished file's length in bytes and its CRC-32."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int
    crc32: int


class Manifest(BaseModel):
    """A store's `manifest.json`.

    `counts` are free-form counts of collection, such as tokens dropped; `nonzeros` are per coder; `files` maps a
    path inside the store to its record. Before a store is finished it has neither contexts nor files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["sae-acts"] = FORMAT
    version: int = VERSION
    frame: ManifestFrame
    coders: tuple[CoderManifest, ...]
    finished: bool = False
    n_contexts: int = 0
    nonzeros: dict[str, int] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    files: dict[str, FileRecord] = Field(default_factory=dict)

    @property
    def config(self) -> str:
        """A hash of everything that was decided before collecting; a store fits a task that has the same."""
        # stores from before there was `sampling` keep their ids
        unsaid = {"versions", "sampling"} if self.frame.sampling == "all" else {"versions"}
        frame = self.frame.model_dump(mode="json", exclude=unsaid)
        # rows are the same content in another order: a store that has them fits whoever does not ask for them
        coders = [coder.model_dump(mode="json", exclude={"rows"}) for coder in self.coders]
        return digest([self.format, self.version, frame, coders])

    @property
    def id(self) -> str:
        """A hash of the configuration and of the content; two finished stores with one id hold the same matrix.

        What is derived from the matrix (statistics, rows) does not count.
        """
        content = {name: record.crc32 for name, record in self.files.items() if not _DERIVED.search(name)}
        return digest([self.config, self.n_contexts, content])


@dataclass(frozen=True, slots=True, eq=False)
class CoderFrame:
    """A coder whose activations a store holds.

    `decoder` is `[latents, d_model]` or None. `partial` announces that latents are not observed in every context:
    `StoreWriter.finish` then has to be told in which. With `rows` the store also tells which latents fire at a
    position (4 more bytes a nonzero).
    """

    name: str
    n_latents: int
    hookpoint: str
    revision: str | None = None
    decoder: NDArray[Any] | None = None
    partial: bool = False
    rows: bool = False

    def manifest(self) -> CoderManifest:
        """The coder as the manifest records it.

        Raises:
            StoreError: the name does not fit a folder, or the decoder does not have a row a latent.
        """
        width = None
        if self.decoder is not None:
            if self.decoder.ndim != 2 or self.decoder.shape[0] != self.n_latents:
                raise StoreError(
                    f'coder "{self.name}": its decoder has shape {list(self.decoder.shape)} '
                    f"where [{self.n_latents}, d_model] was expected"
                )
            width = int(self.decoder.shape[1])
        try:
            return CoderManifest(
                name=self.name,
                n_latents=self.n_latents,
                hookpoint=self.hookpoint,
                revision=self.revision,
                decoder=width,
                partial=self.partial,
                rows=self.rows,
            )
        except ValidationError as error:
            raise StoreError(f'coder "{self.name}": {_first(error)}') from error


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What fired at consecutive positions, as a CSR matrix `[positions, latents]`.

    `indptr` is int64 `[positions + 1]`; `latents` (integers, in any order, no latent twice in a row) and `values`
    (above zero, finite) are `[nonzeros]`.
    """

    indptr: NDArray[np.int64]
    latents: NDArray[np.integer[Any]]
    values: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """The contexts in which each latent of a coder was observed, as a CSR matrix `[latents, contexts]`.

    `indptr` is int64 `[latents + 1]`; `contexts` int64, ascending within a latent.
    """

    indptr: NDArray[np.int64]
    contexts: NDArray[np.int64]


def coder_folder(path: Path, name: str) -> Path:
    """Where a store keeps a coder's files."""
    return path / "coders" / name


def read_manifest(path: Path) -> Manifest:
    """The manifest of the store in a folder.

    Raises:
        StoreError: there is none, it is broken, or a later version wrote it.
    """
    file = path / "manifest.json"
    try:
        raw = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{path} is no store: it has no manifest.json") from error
    except ValueError as error:
        raise StoreError(f"{file} is corrupt: not JSON; collect the store again") from error
    if not isinstance(raw, Mapping) or raw.get("format") != FORMAT:
        raise StoreError(f'{file} is no store\'s manifest: "format" should be "{FORMAT}"')
    version = raw.get("version")
    if isinstance(version, int) and version > VERSION:
        raise StoreError(
            f"{file} has format version {version}, and this program reads versions up to {VERSION}: "
            "install a newer latent-harness"
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise StoreError(f"{file} is corrupt: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
