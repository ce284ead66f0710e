"""Documents packed into contexts: rows of token ids of one length, and the document of each position."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import CorpusError, SubjectError
from harness.subject.documents import Document
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
    EOS, else nothing. `specials` (BOS, EOS, padding) part the documents of a corpus of token ids.
    """

    backend: Tokenizer
    bos: int | None
    separator: int | None
    specials: tuple[int, ...] = ()

    def opened_by_bos(self, wanted: bool | None) -> SubjectTokenizer:  # noqa: FBT001 - a setting as it is
        """The same with rows that a BOS opens or not; None leaves the tokenizer's own way.

        Raises:
            SubjectError: a BOS is wanted and the tokenizer has none.
        """
        if wanted and self.bos is None:
            raise SubjectError("subject.bos = true: this model's tokenizer has no BOS token; leave the key out")
        return replace(self, bos=None) if wanted is False else self

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
    padding: int = 0
    """Positions that were filled up behind a document's end."""


@dataclass(slots=True)
class Packer:
    """Packs documents into rows of `context` positions, at most `limit` positions in all.

    With the policy `packed` documents follow each other, and what ends within a row goes on in the next; with `rows`
    each document opens a row of its own, and the last row of each is padded. `vocabulary` is how many tokens the
    model knows.
    """

    tokenizer: SubjectTokenizer
    context: int
    limit: int | None = None
    policy: Literal["packed", "rows"] = "packed"
    vocabulary: int | None = None
    packed: Packed = field(default_factory=Packed)

    def rows(self, documents: Iterable[Document], name: str) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32]]]:
        """Rows `[context]` of token ids, and the document of each position, -1 where no document's token is.

        Raises:
            CorpusError: the corpus is empty, shorter than one row, or has a token that the model does not know.
        """
        self.packed = Packed()
        most = None if self.limit is None else self.limit // self.context
        if most == 0:
            raise CorpusError(f"subject.corpus.tokens ({self.limit}) is less than one context of {self.context} tokens")
        encoded = self._encoded(documents, name)
        for row in self._packed_rows(encoded) if self.policy == "packed" else self._own_rows(encoded):
            self.packed.contexts += 1
            yield row
            if self.packed.contexts == most:
                return
        if not self.packed.contexts:
            raise CorpusError(self._too_short(name))

    def batches(
        self, documents: Iterable[Document], name: str, batch: int
    ) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32]]]:
        """The rows in batches, `[batch, context]` each; the last may have fewer."""
        rows = self.rows(documents, name)
        while held := list(islice(rows, batch)):
            yield np.stack([tokens for tokens, _ in held]), np.stack([documents for _, documents in held])

    def _packed_rows(
        self, encoded: Iterable[tuple[int, NDArray[np.uint32]]]
    ) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32]]]:
        tokens, documents, start = self._opened()
        filled = start
        for number, ids in encoded:
            self.packed.documents += bool(len(ids))
            if len(ids) and filled > start and self.tokenizer.separator is not None:
                tokens[filled], documents[filled] = self.tokenizer.separator, -1
                filled += 1
            taken = 0
            while True:
                if filled == self.context:
                    yield tokens, documents
                    tokens, documents, filled = self._opened()
                if taken == len(ids):
                    break
                count = min(self.context - filled, len(ids) - taken)
                tokens[filled : filled + count] = ids[taken : taken + count]
                documents[filled : filled + count] = number
                filled += count
                taken += count
        self.packed.dropped = int((documents[:filled] >= 0).sum())

    def _own_rows(
        self, encoded: Iterable[tuple[int, NDArray[np.uint32]]]
    ) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32]]]:
        """Ids that have their own BOS and EOS keep them; they are no part of the document."""
        for number, ids in encoded:
            self.packed.documents += bool(len(ids))
            if len(ids) and ids[0] == self.tokenizer.bos:
                ids = ids[1:]
            while len(ids):
                tokens, documents, start = self._opened()
                part, ids = ids[: self.context - start], ids[self.context - start :]
                stop = start + len(part)
                tokens[start:stop] = part
                documents[start:stop] = np.where(np.isin(part, self.tokenizer.specials), -1, number)
                self.packed.padding += self.context - stop
                yield tokens, documents

    def _opened(self) -> tuple[NDArray[np.uint32], NDArray[np.int32], int]:
        """A new row, its documents, and how many positions are filled."""
        tokens = np.full(self.context, self.tokenizer.separator or 0, np.uint32)
        documents = np.full(self.context, -1, np.int32)
        if self.tokenizer.bos is None:
            return tokens, documents, 0
        tokens[0] = self.tokenizer.bos
        return tokens, documents, 1

    def _encoded(self, documents: Iterable[Document], name: str) -> Iterator[tuple[int, NDArray[np.uint32]]]:
        source = iter(documents)
        number = 0
        while held := list(islice(source, _BATCH)):
            for ids in self._ids(held):
                self._check(ids, f"{name}: document {number}")
                yield number, ids
                number += 1

    def _ids(self, held: list[Document]) -> Iterator[NDArray[np.uint32]]:
        texts = iter(self.tokenizer.encode([document for document in held if isinstance(document, str)]))
        for document in held:
            if isinstance(document, str):
                yield np.asarray(next(texts), np.uint32)
            elif self.policy == "rows":
                yield document
            else:
                yield from self._parts(document)

    def _parts(self, ids: NDArray[np.uint32]) -> Iterator[NDArray[np.uint32]]:
        """The documents of a row of token ids: what stands between its special tokens."""
        ends = np.flatnonzero(np.isin(ids, self.tokenizer.specials))
        begins = np.concatenate([[0], ends + 1])
        return (ids[start:stop] for start, stop in zip(begins, [*ends, len(ids)], strict=True) if start < stop)

    def _check(self, ids: NDArray[np.uint32], where: str) -> None:
        if self.vocabulary is None or not len(ids) or ids.max() < self.vocabulary:
            return
        place = int(np.argmax(ids >= self.vocabulary))
        raise CorpusError(
            f"{where}, position {place}: token id {ids[place]} is beyond the model's vocabulary of {self.vocabulary}: "
            "these ids, or this tokenizer, are another model's"
        )

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
    backend, bos, eos, padding = _fast(files) or _converted(files)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    specials = tuple(sorted({index for index in (bos, eos, padding) if index is not None}))
    return SubjectTokenizer(backend, bos, bos if bos is not None else eos, specials)


def _fast(files: ModelFiles) -> tuple[Any, int | None, int | None, int | None] | None:
    """The tokenizer with its BOS, EOS and padding token."""
    path = files.find("tokenizer.json")
    if path is None:
        return None
    from tokenizers import Tokenizer

    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:
        raise SubjectError(f"{path}: not a valid tokenizer: {error}") from error
    settings = _settings(files.find("tokenizer_config.json")) | _settings(files.find("special_tokens_map.json"))
    bos, eos, padding = (_special(backend, settings, f"{kind}_token") for kind in ("bos", "eos", "pad"))
    return backend, bos, eos, padding


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


def _converted(files: ModelFiles) -> tuple[Any, int | None, int | None, int | None]:
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
    return found.backend_tokenizer, found.bos_token_id, found.eos_token_id, found.pad_token_id
