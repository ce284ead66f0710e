"""Tokens known by their strings alone, as published records have them: ids for them, and the text that they add."""

from __future__ import annotations

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
# what dashboards put back in place of the characters that byte-level BPE writes for them
_BYTES = byte_characters() | {blank: ord(blank) for blank in " \n\t\r\f\v"}


class TokenStrings:
    """Gives each token string an id, in the order in which they come; id 0 fills rows up.

    Dashboards show a token as its tokenizer's vocabulary does, with blanks and line breaks put back: the other bytes of
    a byte-level BPE stay characters that stand for bytes (`âĢĻ` for an apostrophe), a SentencePiece's byte tokens
    stay `<0xE2>`. `vocabulary` turns both into the bytes that they are, so that rows are text again.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._rows = 0
        self._whole = 0

    def row(self, tokens: Sequence[str]) -> NDArray[np.uint32]:
        """The ids of a row's tokens, uint32 `[positions]`."""
        known = self._ids
        ids = np.fromiter((known.setdefault(token, len(known) + 1) for token in tokens), np.uint32, len(tokens))
        if not all(map(str.isascii, tokens)):
            self._rows += 1
            self._whole += _decodes(tokens)
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
        return self._rows > 0 and 2 * self._whole > self._rows


def _decodes(tokens: Sequence[str]) -> bool:
    """Whether a row's tokens are UTF-8 if each character stands for a byte; its ends may cut a character."""
    data = _to_bytes("".join(token for token in tokens if token not in SPECIALS))
    if data is None:
        return False
    start = next((k for k in range(min(4, len(data))) if data[k] & 0xC0 != 0x80), 0)
    try:
        data[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def _to_bytes(text: str) -> bytes | None:
    found = [_BYTES.get(char, -1) for char in text]
    return None if -1 in found else bytes(found)


def _as_bytes(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        data = _to_bytes(name)
        yield name, name if data is None else data.decode("utf-8", "surrogateescape")


def _as_text(name: str) -> str:
    if match := _BYTE.fullmatch(name):
        return bytes.fromhex(match[1]).decode("utf-8", "surrogateescape")
    return name.replace("▁", " ")
