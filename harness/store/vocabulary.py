"""The table from token ids to text, so that a finished store needs no tokenizer."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import StoreError

__all__ = ["Vocabulary", "byte_characters"]

_BYTES = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What each token id adds to the text.

    `strings` has a string per id; bytes that are no whole UTF-8 sequence stand in it as surrogate escapes, and
    special tokens (ids in `specials`) as "". The space that a SentencePiece decoder strips from the start of a
    text is kept: a piece is the same wherever its token stands. `splits` says whether any token is bytes of a
    character that others complete.
    """

    strings: tuple[str, ...]
    specials: tuple[int, ...] = ()
    _partial: NDArray[np.bool_] = field(init=False, repr=False)
    _whole: NDArray[np.bool_] = field(init=False, repr=False)
    splits: bool = field(init=False, repr=False)
    _table: NDArray[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        partial = np.fromiter((_is_partial(text) for text in self.strings), dtype=bool, count=len(self.strings))
        object.__setattr__(self, "_partial", partial)
        some = np.fromiter(map(bool, self.strings), dtype=bool, count=len(self.strings))
        object.__setattr__(self, "_whole", some & ~partial)
        object.__setattr__(self, "splits", bool(partial.any()))
        object.__setattr__(self, "_table", np.array(self.strings, dtype=object))

    def __len__(self) -> int:
        return len(self.strings)

    def pieces(self, ids: ArrayLike, before: ArrayLike = (), *, ends: bool = True) -> tuple[str, ...]:
        """What each token adds to the text of `before + ids`; their concatenation is the text that `ids` add.

        A character split over several tokens belongs to the token that completes it, earlier ones give ""; bytes
        that no token completes become U+FFFD at the token that breaks them off, or at the last one if the text
        `ends` there. An id that the vocabulary does not have gives "".

        Args:
            ids: token ids, `[positions]`.
            before: the ids just before them.
            ends: whether nothing follows.
        """
        own = np.asarray(ids, dtype=np.int64)
        if not self.splits:
            return tuple(self._lookup(own))
        earlier = np.asarray(before, dtype=np.int64)
        tail = earlier[self._clean_start(earlier) :]
        if not (self._is_partial_at(own).any() or self._is_partial_at(tail).any()):
            return tuple(self._lookup(own))
        everything = _decode(self._lookup(np.concatenate([tail, own])), ends=ends)
        return tuple(everything[len(tail) :])

    def rows(self, ids: NDArray[np.integer[Any]]) -> list[tuple[str, ...]]:
        """The strings of `[rows, positions]` ids as they stand in the table, whatever is before them."""
        if not self._has(ids):
            return [tuple(self._lookup(row)) for row in ids.astype(np.int64)]
        return [tuple(row) for row in self._table[ids].tolist()]

    def has_partial(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Whether any token of each row, `[rows, positions]`, is bytes of a split character: bool `[rows]`."""
        if not self.splits:
            return np.zeros(len(ids), dtype=bool)
        partial = self._partial[ids] if self._has(ids) else self._is_partial_at(ids.astype(np.int64))
        return np.logical_or.reduce(partial, axis=1)

    def unsettled(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Whether a character's bytes may wait after each token: it is bytes itself, or no text; bool, as `ids`."""
        if not self.splits:
            return np.zeros(ids.shape, dtype=bool)
        wide = ids.astype(np.int64)
        whole = (wide >= 0) & (wide < len(self.strings))
        whole[whole] = self._whole[wide[whole]]
        return ~whole

    def text(self, ids: ArrayLike) -> str:
        """The text of a sequence of token ids."""
        return "".join(self.pieces(ids))

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> Vocabulary:
        """The table of a `tokenizers.Tokenizer`, or of a fast tokenizer of `transformers`.

        Raises:
            StoreError: the tokenizer has no `tokenizers` backend to read.
        """
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(backend, "to_str") or not hasattr(backend, "get_vocab"):
            raise StoreError(f"{type(tokenizer).__name__} is no fast tokenizer: save it as tokenizer.json first")
        data = json.loads(backend.to_str())
        specials = {int(token["id"]) for token in data.get("added_tokens") or () if token["special"]}
        known: Mapping[str, int] = backend.get_vocab(with_added_tokens=True)
        names = {index: name for name, index in known.items()}
        strings = ["" for _ in range(max(names, default=-1) + 1)]
        for index, text in _texts(backend, data.get("decoder"), names):
            if index not in specials:
                strings[index] = text
        return cls(tuple(strings), tuple(sorted(specials)))

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a table that `as_json` gave.

        Raises:
            StoreError: the file is missing or broken.
        """
        try:
            raw = json.loads(path.read_text("utf-8"))
            return cls(tuple(str(text) for text in raw["strings"]), tuple(int(index) for index in raw["specials"]))
        except FileNotFoundError as error:
            raise StoreError(f"{path} is missing: collect the store again") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is corrupt: not a vocabulary; collect the store again") from error

    def as_json(self) -> dict[str, Any]:
        """The table as JSON-able data."""
        return {"specials": list(self.specials), "strings": list(self.strings)}

    def _has(self, ids: NDArray[np.integer[Any]]) -> bool:
        """Whether all ids are in the table."""
        return not ids.size or (ids.min() >= 0 and ids.max() < len(self.strings))

    def _lookup(self, ids: NDArray[np.int64]) -> list[str]:
        strings, size = self.strings, len(self.strings)
        return [strings[index] if 0 <= index < size else "" for index in ids.tolist()]

    def _is_partial_at(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        inside = (ids >= 0) & (ids < len(self.strings))
        return np.where(inside, self._partial[np.where(inside, ids, 0)], np.False_)

    def _clean_start(self, ids: NDArray[np.int64]) -> int:
        """Where to start decoding so that nothing earlier matters: at the last token that is whole text itself."""
        texts, partial = self._lookup(ids), self._is_partial_at(ids)
        for index in range(len(texts) - 1, -1, -1):
            if texts[index] and not partial[index]:
                return index
        return 0


def _is_partial(text: str) -> bool:
    return _BYTES.search(text) is not None


def _decode(texts: Sequence[str], *, ends: bool) -> list[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pieces = [decoder.decode(text.encode("utf-8", "surrogateescape")) for text in texts]
    if ends and pieces:
        pieces[-1] += decoder.decode(b"", final=True)
    return pieces


def _texts(backend: Any, decoder: Any, names: Mapping[int, str]) -> Iterable[tuple[int, str]]:
    kinds = _kinds(decoder)
    if "ByteLevel" in kinds:
        table = byte_characters()
        return ((index, _from_bytes(_byte_level(name, table))) for index, name in names.items())
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        fallback = "ByteFallback" in kinds
        return ((index, _sentencepiece(name, fallback=fallback)) for index, name in names.items())
    return _by_decoding(backend, names)


def _kinds(decoder: Any) -> set[str]:
    if not decoder:
        return set()
    if decoder["type"] == "Sequence":
        return set().union(*(_kinds(part) for part in decoder["decoders"]))
    return {decoder["type"]}


def _byte_level(name: str, table: Mapping[str, int]) -> bytes:
    # an added token is plain text: it has characters, such as the space, that stand for no byte
    if any(char not in table for char in name):
        return name.encode("utf-8")
    return bytes(table[char] for char in name)


def byte_characters() -> dict[str, int]:
    """The characters by which byte-level BPE writes bytes: printable Latin-1 as itself, the rest from U+0100 on."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    table = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in plain]
    return table | {chr(0x100 + place): byte for place, byte in enumerate(others)}


def _sentencepiece(name: str, *, fallback: bool) -> str:
    if fallback and len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return _from_bytes(bytes.fromhex(name[3:5]))
    return name.replace("▁", " ")


def _from_bytes(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _by_decoding(backend: Any, names: Mapping[int, str]) -> Iterable[tuple[int, str]]:
    """Any other decoder: what a token adds to the text after one that is a plain word."""
    anchor = next((index for index, name in sorted(names.items()) if name.isalpha()), next(iter(names)))
    start = backend.decode([anchor], skip_special_tokens=False)
    for index in names:
        both = backend.decode([anchor, index], skip_special_tokens=False)
        own = both[len(start) :] if both.startswith(start) else backend.decode([index], skip_special_tokens=False)
        yield index, own
