"""What a model's small files tell of it: what kind it is, its context and its revision; no weights, no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.clients.local.chat import has_template
from harness.errors import SubjectError, TaskError
from harness.subject.models import ModelFiles, content_hash, find_model
from harness.values import digest

__all__ = ["Place", "Pooling", "find_place"]

# small files that change what a model answers and are no part of a folder's revision otherwise
_DECIDING = (
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
_CONTEXTS = ("max_position_embeddings", "n_positions", "max_sequence_length", "n_ctx", "seq_length")
# tokenizers without a limit say 10**30
_UNLIMITED = 10**9
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclass(frozen=True, slots=True)
class Pooling:
    """How an embedder makes one vector of a text's: `mode` is `mean` or `cls`.

    `prompt` stands before every text; `lower` texts are lowercased first, `unit` vectors scaled to length 1.
    """

    mode: str
    unit: bool
    lower: bool = False
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A model's files and what they tell; `pooling` is None for a language model, `chat` whether it has a template.

    `revision` changes with anything that decides an answer: a hash of a folder's files, a Hub model's commit.
    """

    files: ModelFiles
    revision: str
    context: int | None
    vocabulary: int | None
    chat: bool
    pooling: Pooling | None


def find_place(model: str, revision: str | None, base: Path) -> Place:
    """The place of a model's folder, relative to `base`, or of a Hugging Face id.

    Raises:
        SubjectError: there is no such model, or its files are broken.
        TaskError: it is no causal language model and no embedder that is understood; the message names what it has.
    """
    files = find_model(model, revision, base)
    if files.find("tokenizer.json") is None:
        raise SubjectError(f"{files.folder or files.name}: no tokenizer.json, which a local model's text is read with")
    config = _read(files, "config.json") or {}
    text = config.get("text_config") or config
    pooling = _pooling(files)
    if pooling is None:
        _check_causal(files, config)
    return Place(
        files=files,
        revision=files.revision if files.folder is None else _revision(files, pooling),
        context=_context(files, text, pooling),
        vocabulary=text.get("vocab_size"),
        chat=pooling is None and has_template(files),
        pooling=pooling,
    )


def _check_causal(files: ModelFiles, config: dict[str, Any]) -> None:
    kinds = config.get("architectures") or []
    if kinds and not any(kind.endswith(_CAUSAL) for kind in kinds):
        raise TaskError(
            f"{files.folder or files.name}: config.json names the architecture {kinds[0]}; a local model is a causal "
            "language model or a sentence-transformers model (with a modules.json)"
        )


def _revision(files: ModelFiles, pooling: Pooling | None) -> str:
    assert files.folder is not None
    paths = [files.folder / name for name in _DECIDING if (files.folder / name).is_file()]
    return digest([files.revision, content_hash(paths), None if pooling is None else pooling.mode])


def _context(files: ModelFiles, config: dict[str, Any], pooling: Pooling | None) -> int | None:
    limits = [next((config[key] for key in _CONTEXTS if isinstance(config.get(key), int)), None)]
    limits.append((_read(files, "tokenizer_config.json") or {}).get("model_max_length"))
    if pooling is not None:
        limits.append((_read(files, "sentence_bert_config.json") or {}).get("max_seq_length"))
    return min((int(limit) for limit in limits if limit is not None and limit < _UNLIMITED), default=None)


def _pooling(files: ModelFiles) -> Pooling | None:
    modules = _read(files, "modules.json")
    if modules is None:
        return None
    where = str(files.folder or files.name)
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise TaskError(
            f"{where}: modules.json lists {', '.join(kinds) or 'nothing'}; an embedder is Transformer, Pooling and, "
            "perhaps, Normalize"
        )
    if modules[0].get("path"):
        raise TaskError(f'{where}: modules.json has its Transformer in "{modules[0]["path"]}"; it has to be at the top')
    config = _read(files, f"{modules[1]['path']}/config.json") or {}
    own = _read(files, "sentence_bert_config.json") or {}
    prompts = _read(files, "config_sentence_transformers.json") or {}
    prompt = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name")) or ""
    if prompt and config.get("include_prompt") is False:
        raise TaskError(
            f"{where}: the Pooling leaves a prompt out of the mean (include_prompt), which is not supported"
        )
    return Pooling(_mode(where, config), len(kinds) == 3, bool(own.get("do_lower_case")), prompt)


def _mode(where: str, config: dict[str, Any]) -> str:
    named = config.get("pooling_mode")
    modes = [named] if named else [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    mode = _POOLINGS.get(modes[0], modes[0]) if len(modes) == 1 else None
    if mode not in _POOLINGS.values():
        raise TaskError(
            f"{where}: the Pooling is {' and '.join(map(str, modes)) or 'not named'}; it has to be mean or cls"
        )
    return str(mode)


def _read(files: ModelFiles, name: str) -> Any:
    path = files.find(name)
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SubjectError(f"{path}: not valid JSON: {error}") from error
