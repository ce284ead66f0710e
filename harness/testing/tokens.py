"""How the fake model cuts text into tokens and counts them: about as real ones do, or as badly as any could."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["BYTES", "CHARACTERS", "TOKENS", "Tokens"]

# as byte-pair tokenisers cut English: a word takes its leading blank, digits stand in groups of at most three
_TOKEN = re.compile(r" ?[^\W\d_]+| ?[^\w\s]+?(?=[\w\s]|$)|\d{1,3}|_|\s|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tokens:
    """`count` gives how many tokens a prompt's text is, `split` the tokens of what the model says.

    The tokens of a text join up to it; one that holds a part of a character is a string of surrogates, as in
    `bytes.decode("utf-8", "surrogateescape")`. Each message of a prompt is `message` tokens more than its text.
    """

    count: Callable[[str], int]
    split: Callable[[str], list[str]]
    message: int = 4


def _bytes(text: str) -> list[str]:
    raw = text.encode("utf-8", "surrogatepass")
    return [bytes([byte]).decode("utf-8", "surrogateescape") for byte in raw]


CHARACTERS = Tokens(lambda text: len(text) // 4, _TOKEN.findall, 3)
# no tokeniser that works on bytes makes more tokens of a text than this
BYTES = Tokens(lambda text: len(text.encode("utf-8", "surrogatepass")), _bytes)

TOKENS: dict[str, Tokens] = {"characters/4": CHARACTERS, "bytes": BYTES}
