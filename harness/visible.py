"""Untrusted text as a reader sees it: nothing in it acts, and nothing in it hides."""

from __future__ import annotations

import unicodedata

__all__ = ["visible"]

_SYMBOLS = {"\n": "↵", "\t": "⇥", "\x7f": "␡"}
# zero-width joiners change how letters of Persian, Indic scripts and emoji join: text, not control
_JOINERS = "\u200c\u200d"
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str, *, breaks: bool = False) -> str:
    """Text in which nothing acts: controls, direction overrides, invisible and broken characters as visible signs.

    Line feeds and tabs become `↵` and `⇥`, other C0 controls their control picture, bytes kept by surrogateescape
    `\\xNN`, whatever else is invisible its code point. With `breaks`, line feeds and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if breaks and character in "\n\t" else _sign(character) for character in text)


def _sign(character: str) -> str:
    if (symbol := _SYMBOLS.get(character)) is not None:
        return symbol
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
