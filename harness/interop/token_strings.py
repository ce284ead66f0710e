"""Tokens known by their strings alone, as published records have them: ids for them, and the text that they add."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.store import Vocabulary
from harness.store.vocabulary import byte_characters

__all__ = ["PAD", "SPECIALS", "TokenStrings"]

# the id of what fills a row up to the length of the longest
PAD = 0
# tokens that stand for no text, by the names that the tokenizers of well-known models give them
SPECIALS = frozenset(
    {"<|endoftext|>", "<|startoftext|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|im_start|>"}
    | {"<|im_end|>", "<bos>", "<eos>", "<pad>", "<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>"}
    | {"[CLS]", "[SEP]", "[PAD]", "[UNK]"}
)

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# the byte that a character stands for; what stands for none was put back, and is its own UTF-8
_BYTES = {char: bytes([byte]) for char, byte in byte_characters().items()}


class TokenStrings:
    """Gives each token string an id, in the order in which they come; id 0 fills rows up.

    Dashboards show a token as its tokenizer's vocabulary does, with blanks, line breaks and some punctuation put back:
    the other bytes of a byte-level BPE stay characters that stand for bytes (`âĢĻ` for an apostrophe), a
    SentencePiece's byte tokens stay `<0xE2>`. `vocabulary` turns both into the bytes that they are, so that rows are
    text again.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._for_bytes = 0
        self._against = 0

    def row(self, tokens: Sequence[str]) -> NDArray[np.uint32]:
        """The ids of a row's tokens, uint32 `[positions]`."""
        known = self._ids
        ids = np.fromiter((known.setdefault(token, len(known) + 1) for token in tokens), np.uint32, len(tokens))
        found = _are_bytes("".join(token for token in tokens if token not in SPECIALS))
        self._for_bytes += found is True
        self._against += found is False
        return ids

    def special(self, ids: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which ids are no text: special tokens and what fills a row up."""
        wanted = [PAD, *(index for name in SPECIALS if (index := self._ids.get(name)) is not None)]
        return np.isin(ids, np.array(wanted, dtype=np.uint32))

    def vocabulary(self) -> Vocabulary:
        """The table from ids to text."""
        texts = dict(_as_bytes(self._ids)) if self._byte_level else {name: _as_text(name) for name in self._ids}
        specials = (PAD, *sorted(self._ids[name] for name in SPECIALS if name in self._ids))
        return Vocabulary(("", *("" if name in SPECIALS else texts[name] for name in self._ids)), specials)

    @property
    def _byte_level(self) -> bool:
        """Whether the strings are a byte-level BPE's: as bytes they are UTF-8, which other text hardly ever is."""
        return self._for_bytes > self._against


def _are_bytes(text: str) -> bool | None:
    """Whether a row's text is UTF-8 if its characters stand for bytes, None if it is the same text either way."""
    if text.isascii():
        return None
    data = _to_bytes(text)
    # a row may begin and end within a character
    start = next((k for k in range(min(4, len(data))) if data[k] & 0xC0 != 0x80), 0)
    try:
        found = codecs.getincrementaldecoder("utf-8")().decode(data[start:])
    except UnicodeDecodeError:
        return False
    return True if found != text[start : start + len(found)] else None


def _to_bytes(text: str) -> bytes:
    return b"".join(_BYTES.get(char) or char.encode("utf-8", "surrogatepass") for char in text)


def _as_bytes(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        yield name, _to_bytes(name).decode("utf-8", "surrogateescape")


def _as_text(name: str) -> str:
    if match := _BYTE.fullmatch(name):
        return bytes.fromhex(match[1]).decode("utf-8", "surrogateescape")
    return name.replace("▁", " ")
