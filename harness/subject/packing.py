"""Documents packed into contexts: rows of token ids of one length, and the document of each position."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import CorpusError, SubjectError
from harness.subject.models import ModelFiles

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Packed", "Packer", "SubjectTokenizer", "load_tokenizer"]

# Documents handed to the tokenizer at once: enough for its threads, little memory.
_BATCH = 256


@dataclass(frozen=True, slots=True)
class SubjectTokenizer:
    """A tokenizer with the special tokens that packing needs.

    `bos` opens every row where there is one; `separator` stands between two documents of a row: the BOS, else the
    EOS, else nothing.
    """

    backend: Tokenizer
    bos: int | None
    separator: int | None

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens; a special token's name inside a text is plain text."""
        return [found.ids for found in self.backend.encode_batch_fast(texts, add_special_tokens=False)]


@dataclass(slots=True)
class Packed:
    """What packing came to: counted while rows are drawn."""

    documents: int = 0
    contexts: int = 0
    dropped: int = 0
    """Tokens at the corpus's end that did not fill a row; 0 where the limit was reached first."""


@dataclass(slots=True)
class Packer:
    """Packs documents into rows of `context` positions, at most `limit` tokens of them."""

    tokenizer: SubjectTokenizer
    context: int
    limit: int | None = None
    packed: Packed = field(default_factory=Packed)

    def rows(self, texts: Iterable[str], name: str) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32]]]:
        """Rows `[context]` of token ids, and the document of each position, -1 where packing put the token.

        Raises:
            CorpusError: the corpus is empty, or shorter than one row.
        """
        self.packed = Packed()
        most = None if self.limit is None else self.limit // self.context
        if most == 0:
            raise CorpusError(f"subject.corpus.tokens ({self.limit}) is less than one context of {self.context} tokens")
        for row in self._rows(texts):
            self.packed.contexts += 1
            yield row
            if self.packed.contexts == most:
                return
        if not self.packed.contexts:
            raise CorpusError(self._too_short(name))

    def batches(
        self, texts: Iterable[str], name: str, batch: int
    ) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32]]]:
        """The rows in batches, `[batch, context]` each; the last may have fewer."""
        rows = self.rows(texts, name)
        while held := list(islice(rows, batch)):
            yield np.stack([tokens for tokens, _ in held]), np.stack([documents for _, documents in held])

    def _rows(self, texts: Iterable[str]) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32]]]:
        tokens = np.empty(self.context, np.uint32)
        documents = np.empty(self.context, np.int32)
        start = self._open(tokens, documents)
        filled = start
        for number, ids in self._encoded(texts):
            self.packed.documents += bool(len(ids))
            if len(ids) and filled > start and self.tokenizer.separator is not None:
                tokens[filled], documents[filled] = self.tokenizer.separator, -1
                filled += 1
            taken = 0
            while True:
                if filled == self.context:
                    yield tokens, documents
                    tokens, documents = np.empty_like(tokens), np.empty_like(documents)
                    filled = self._open(tokens, documents)
                if taken == len(ids):
                    break
                count = min(self.context - filled, len(ids) - taken)
                tokens[filled : filled + count] = ids[taken : taken + count]
                documents[filled : filled + count] = number
                filled += count
                taken += count
        self.packed.dropped = int((documents[:filled] >= 0).sum())

    def _open(self, tokens: NDArray[np.uint32], documents: NDArray[np.int32]) -> int:
        if self.tokenizer.bos is None:
            return 0
        tokens[0], documents[0] = self.tokenizer.bos, -1
        return 1

    def _encoded(self, texts: Iterable[str]) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        source = iter(texts)
        number = 0
        while held := list(islice(source, _BATCH)):
            for ids in self.tokenizer.encode(held):
                yield number, np.asarray(ids, np.uint32)
                number += 1

    def _too_short(self, name: str) -> str:
        if not self.packed.documents:
            return f"{name}: this corpus is empty"
        return (
            f"{name}: this corpus has only {self.packed.dropped} tokens, less than one context of {self.context}; "
            "give more text or a smaller subject.context"
        )


def load_tokenizer(files: ModelFiles) -> SubjectTokenizer:
    """The subject's tokenizer, read without torch where the model has a `tokenizer.json`.

    Raises:
        SubjectError: the model has no fast tokenizer, or it cannot be read.
    """
    backend, bos, eos = _fast(files) or _converted(files)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return SubjectTokenizer(backend, bos, bos if bos is not None else eos)


def _fast(files: ModelFiles) -> tuple[Any, int | None, int | None] | None:
    path = files.find("tokenizer.json")
    if path is None:
        return None
    from tokenizers import Tokenizer

    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:
        raise SubjectError(f"{path}: not a valid tokenizer: {error}") from error
    settings = _settings(files.find("tokenizer_config.json")) | _settings(files.find("special_tokens_map.json"))
    return backend, _special(backend, settings, "bos_token"), _special(backend, settings, "eos_token")


def _settings(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SubjectError(f"{path}: not valid JSON: {error}") from error
    return data if isinstance(data, dict) else {}


def _special(backend: Tokenizer, settings: dict[str, Any], key: str) -> int | None:
    value = settings.get(key)
    text = value.get("content") if isinstance(value, dict) else value
    return backend.token_to_id(text) if isinstance(text, str) else None


def _converted(files: ModelFiles) -> tuple[Any, int | None, int | None]:
    from transformers import AutoTokenizer

    where = str(files.folder or files.name)
    try:
        found: Any = AutoTokenizer.from_pretrained(
            where, revision=None if files.folder else files.revision, trust_remote_code=False
        )
    except Exception as error:
        line = str(error).strip().splitlines() or [type(error).__name__]
        raise SubjectError(f"{where}: the tokenizer cannot be loaded: {line[0]}") from error
    if not getattr(found, "is_fast", False):
        raise SubjectError(f"{where}: this model has no fast tokenizer (tokenizer.json), which is needed")
    return found.backend_tokenizer, found.bos_token_id, found.eos_token_id
