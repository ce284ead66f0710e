"""Logprobs as chat completions hold them, read when they are looked at: most of a long reply's JSON is logprobs.

Of a reply with the logprobs of 220 tokens they are 99 in 100 bytes, and going over them to find their end would take as
long as compressing them: `set_apart` finds it from behind, where it is what it mostly is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import overload

import msgspec

from harness.errors import MissingLogprobs
from harness.values import TokenLogprob

__all__ = ["RawLogprobs", "set_apart"]

_FILLED = re.compile(rb'"content"\s*:\s*\[\s*\{')
# no string holds it, for there each quotation mark stands behind a backslash
_FIELD = re.compile(rb'"logprobs"\s*:\s*(?=\{)')
# of the last token with its alternatives
_LAST = b"}]}]"
_END = re.compile(rb'(?:\s*,\s*"refusal"\s*:\s*null)?\s*\}')


class _Alternative(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Token(_Alternative):
    top_logprobs: list[_Alternative] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


_DECODER = msgspec.json.Decoder(_Logprobs)


def set_apart(content: bytes) -> tuple[bytes, msgspec.Raw] | None:
    """A chat completion with null for its logprobs, and these, unread; None where they do not stand out.

    Where the end is taken for one that it is not, as when an answer that stands behind them looks like it, what is
    around them is no JSON any more.
    """
    if (field := _FIELD.search(content)) is None:
        return None
    last = content.rfind(_LAST, field.end())
    if last < 0 or (end := _END.match(content, last + len(_LAST))) is None:
        return None
    around = b"".join((content[: field.end()], b"null", content[end.end() :]))
    return around, msgspec.Raw(memoryview(content)[field.end() : end.end()])


class RawLogprobs(Sequence[TokenLogprob]):
    """The `logprobs` of a chat completion's choice, as JSON in UTF-8.

    Looking at it raises MissingLogprobs where it is no JSON, or no list of tokens with logprobs.
    """

    def __init__(self, raw: bytes | msgspec.Raw) -> None:
        self._raw = memoryview(raw)

    @property
    def raw(self) -> bytes:
        """The JSON."""
        return bytes(self._raw)

    @property
    def view(self) -> memoryview:
        """The JSON, not copied: it may be a part of a larger reply."""
        return self._raw

    @property
    def filled(self) -> bool:
        """Whether there is at least one token, without reading on."""
        return _FILLED.search(self._raw, 0, 1000) is not None

    @cached_property
    def _tokens(self) -> tuple[TokenLogprob, ...]:
        try:
            content = _DECODER.decode(self._raw).content
        except msgspec.DecodeError as error:
            raise MissingLogprobs(f"the reply's logprobs cannot be read: {error}") from error
        return tuple(_token(item) for item in content or ())

    def __len__(self) -> int:
        return len(self._tokens)

    @overload
    def __getitem__(self, index: int) -> TokenLogprob: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TokenLogprob]: ...
    def __getitem__(self, index: int | slice) -> TokenLogprob | Sequence[TokenLogprob]:
        return self._tokens[index]

    def __iter__(self) -> Iterator[TokenLogprob]:
        return iter(self._tokens)

    def __eq__(self, other: object) -> bool:
        return tuple(other) == self._tokens if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # pyright: ignore[reportAssignmentType] - equal to tuples, whose hash would have to be matched

    def __repr__(self) -> str:
        return repr(self._tokens)


def _token(item: _Token) -> TokenLogprob:
    # Servers differ: the sampled token may be missing among the alternatives, or stand there beyond the number asked.
    top = tuple((_piece(other), other.logprob) for other in item.top_logprobs or ())
    return TokenLogprob(_piece(item), item.logprob, top)


def _piece(item: _Alternative) -> str:
    """A token's text; one that holds a part of a character only is told by its bytes, as surrogates that join up."""
    if item.bytes and (not item.token.isascii() or "\\x" in item.token):
        return bytes(item.bytes).decode("utf-8", "surrogateescape")
    return item.token
