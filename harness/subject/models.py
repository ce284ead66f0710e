"""The subject model's files: where they are, what revision they are, and the loaded model."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import SubjectError, UserError
from harness.values import digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ModelFiles", "content_hash", "find_model", "hub_file", "load_model"]

# Beyond this size a file is identified by its length and evenly spaced samples: training moves every weight, and
# reading tens of gigabytes to name a store would cost more than opening the store.
_WHOLE = 64 * 2**20
_SAMPLES = 64
_SAMPLE = 64 * 2**10

_HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$", re.ASCII)
_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's place: a folder, or a Hub id pinned to the commit that `revision` names."""

    name: str
    revision: str
    folder: Path | None

    def find(self, file: str) -> Path | None:
        """The path of one of the model's small files, fetched from the Hub if need be; None if there is none."""
        if self.folder is not None:
            path = self.folder / file
            return path if path.is_file() else None
        return hub_file(self.name, file, self.revision, SubjectError, missing_ok=True)

    def config(self) -> dict[str, Any]:
        """The text model's part of `config.json`; empty where there is none.

        Raises:
            SubjectError: it is broken.
        """
        path = self.find("config.json")
        if path is None:
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return dict(found.get("text_config") or found)
        except (ValueError, AttributeError, TypeError) as error:
            raise SubjectError(f"{path}: not a valid model configuration") from error

    def vocabulary(self) -> int | None:
        """How many token ids the model knows, None where its configuration does not tell."""
        size = self.config().get("vocab_size")
        return size if isinstance(size, int) else None


def find_model(model: str, revision: str | None, base: Path, *, weights: bool = True) -> ModelFiles:
    """Where a subject is; a folder relative to `base` goes before a Hub id of the same spelling.

    A folder's revision is a hash of its content, a Hub model's the commit. Without `weights` only its tokenizer
    counts and has to be there.

    Raises:
        SubjectError: there is no such folder or model.
    """
    folder = (base / Path(model).expanduser()).resolve()
    if folder.is_dir():
        if revision is not None:
            raise SubjectError(f"{model}: revision belongs to a Hugging Face id, and this is a folder; leave it out")
        needed = "config.json" if weights else "tokenizer.json"
        if not (folder / needed).is_file():
            raise SubjectError(f"{folder}: no {needed}: this folder holds no Hugging Face model")
        return ModelFiles(model, _folder_revision(folder, weights=weights), folder)
    if folder.exists() or model.startswith((".", "/", "~")) or not _HUB_ID.match(model):
        raise SubjectError(f"{model}: no such folder ({folder}); a model is named by its folder or Hugging Face id")
    try:
        found = hub_file(model, "config.json" if weights else "tokenizer.json", revision, SubjectError)
    except SubjectError as problem:
        raise SubjectError(f"{problem}; and there is no folder {folder}") from problem
    assert found is not None
    return ModelFiles(model, found.parent.name, None)


def hub_file(
    repository: str, file: str, revision: str | None, error: type[UserError], *, missing_ok: bool = False
) -> Path | None:
    """A file of a Hub repository, from the cache or fetched; its folder is named by the commit.

    Raises:
        UserError: of the type `error`, where the repository or file cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except LocalEntryNotFoundError as problem:
        raise error(
            f"{repository}: {file} is not in the local cache and the Hugging Face Hub cannot be reached"
        ) from problem
    except EntryNotFoundError as problem:
        if missing_ok:
            return None
        raise error(f"{repository}: this Hugging Face repository has no file {file}") from problem
    except (HfHubHTTPError, ValueError, OSError) as problem:
        line = str(problem).strip().splitlines() or [type(problem).__name__]
        raise error(f"{repository}: {file} cannot be fetched from the Hugging Face Hub: {line[0]}") from problem


def content_hash(paths: Iterable[Path]) -> str:
    """A SHA-256 over the names and content of files, in the order given.

    Of a file beyond 64 MiB only its length and 64 evenly spaced blocks of 64 KiB are read.
    """
    total = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        total.update(digest([path.name, size]).encode())
        with path.open("rb") as file:
            if size <= _WHOLE:
                total.update(hashlib.file_digest(file, "sha256").digest())
                continue
            for sample in range(_SAMPLES):
                file.seek(sample * (size - _SAMPLE) // (_SAMPLES - 1))
                total.update(file.read(_SAMPLE))
    return total.hexdigest()


def load_model(files: ModelFiles, dtype: str, device: str, *, encoder: bool = False) -> PreTrainedModel:
    """The model in evaluation mode on `device`, without gradients; an `encoder` has no head for tokens.

    Raises:
        SubjectError: the weights are missing or broken, or the model needs code of its own.
    """
    import torch
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.utils import logging

    where = str(files.folder or files.name)
    with _LOADING:
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            kind = AutoModel if encoder else AutoModelForCausalLM
            model: Any = kind.from_pretrained(
                where,
                revision=None if files.folder else files.revision,
                dtype=getattr(torch, dtype),
                trust_remote_code=False,
                use_safetensors=True,
            )
        except Exception as problem:
            line = str(problem).strip().splitlines() or [type(problem).__name__]
            raise SubjectError(f"{where}: the model cannot be loaded: {line[0]}") from problem
        finally:
            if shown:
                logging.enable_progress_bar()
    return _on_device(model, device).eval().requires_grad_(False)


def _on_device(model: Any, device: str) -> Any:
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as problem:
        raise SubjectError(f'subject.device "{device}" cannot be used: {str(problem).splitlines()[0]}') from problem


def _folder_revision(folder: Path, *, weights: bool) -> str:
    names = (
        ("config.json", "tokenizer.json", "tokenizer_config.json")
        if weights
        else ("tokenizer.json", "tokenizer_config.json")
    )
    texts = [folder / name for name in names if (folder / name).is_file()]
    return content_hash(texts + (_weight_files(folder) if weights else []))


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as problem:
            raise SubjectError(f"{index}: not a valid index of safetensors files") from problem
        found = [folder / str(name) for name in names]
    else:
        found = [folder / "model.safetensors"]
    for path in found:
        if not path.is_file():
            raise SubjectError(f"{path}: missing; a model's weights are read from safetensors files only")
    return found
