"""Takes API keys out of whatever a provider sends back, before anybody keeps, shows or logs it."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
from dataclasses import replace
from itertools import accumulate, groupby
from urllib.parse import quote

from harness.clients.logprobs import RawLogprobs
from harness.clients.protocol import Reply
from harness.questions.messages import ToolCall
from harness.values import TokenLogprob

__all__ = ["REDACTED", "Redactor", "guard_logs", "release_logs"]

REDACTED = "[redacted]"

# A shorter "key" is the placeholder of a server that wants none ("none", "EMPTY", "token"): taking it out would
# change honest text and hide nothing.
_SHORTEST = 8
# A run of this many characters of a long key is treated as the key: providers cut keys in their messages.
_RUN = 10
# the loggers that the SDKs and their transport write requests, headers and errors to
_LOGGERS = (
    "anthropic",
    "anthropic._base_client",
    "openai",
    "openai._base_client",
    "httpx2",
    "aiohttp.client",
    "asyncio",
)
# how JSON may hide an ASCII character
_ESCAPED = re.compile(rb"\\u00[2-7]")
# "sk-ab***yz" and the like, as providers write a key that they mask themselves
_MASKED = re.compile(r"[\w-]{0,99}[*•…]{3,}[\w-]{0,99}|[\w-]{1,99}\.{3,}[\w-]{0,99}")


class Redactor:
    """Knows a key in the forms that it comes back in: plain, cut, masked, quoted, escaped, in hex and in Base64."""

    def __init__(self, key: str) -> None:
        self._key = key if len(key) >= _SHORTEST else ""
        self._forms = tuple(_forms(self._key)) if self._key else ()
        # Any run of 2 * _RUN - 1 characters of the key holds one of these whole: few enough to look for in every text.
        starts = range(0, len(self._key) - _RUN + 1, _RUN) if len(self._key) >= 2 * _RUN else ()
        self._probes = (*self._forms, *(self._key[at : at + _RUN] for at in starts))
        self._byte_forms = tuple(form.encode() for form in self._forms)
        self._pieces = {self._key[at : at + _RUN] for at in range(len(self._key) - _RUN + 1)} if starts else set[str]()

    def found(self, text: str) -> bool:
        """Whether the key, or a long piece of it, is in a text."""
        return any(probe in text for probe in self._probes)

    def clean(self, text: str) -> str:
        """The text with `[redacted]` for every form and long piece of the key."""
        hidden = self._hidden(text)
        if not any(hidden):
            return text
        runs = groupby(zip(text, hidden, strict=True), key=lambda pair: pair[1])
        return "".join(REDACTED if secret else "".join(char for char, _ in run) for secret, run in runs)

    def reply(self, reply: Reply) -> Reply:
        """The reply without the key in any of its strings, nor spelled by its tokens."""
        if not self._told(reply):
            return reply
        return replace(
            reply,
            text=self.clean(reply.text),
            model=self.clean(reply.model),
            request_id=None if reply.request_id is None else self.clean(reply.request_id),
            fingerprint=None if reply.fingerprint is None else self.clean(reply.fingerprint),
            calls=tuple(
                ToolCall(self.clean(call.id), self.clean(call.name), self.clean(call.arguments)) for call in reply.calls
            ),
            logprobs=None if reply.logprobs is None else self._logprobs(tuple(reply.logprobs)),
            thoughts=self.clean(reply.thoughts),
        )

    def _told(self, reply: Reply) -> bool:
        """Whether the key is anywhere in a reply; logprobs as received are searched as they are, which is quick."""
        if self.found("\0".join(_strings(reply))):
            return True
        raw = reply.logprobs
        if not self._probes or raw is None:
            return False
        if isinstance(raw, RawLogprobs):
            content = raw.raw  # a copy, so once
            if b"\\" not in content or _ESCAPED.search(content) is None:
                # What its tokens spell is the text, searched above. An alternative is one token: pieces of the key are
                # not looked for in it, which would take longer than all else that is done with a long reply.
                return any(form in content for form in self._byte_forms)
        alternatives = "\0".join(text for item in raw for text, _ in item.top)
        return self.found(alternatives) or self.found("".join(item.token for item in raw))

    def _hidden(self, text: str) -> bytearray:
        """For each character, whether it belongs to the key."""
        hidden = bytearray(len(text))
        if not self._key:
            return hidden
        start = self._key[:3]
        spans = [match.span() for match in _MASKED.finditer(text) if match[0].startswith(start)]
        if self.found(text):
            spans += [match.span() for form in self._forms for match in re.finditer(re.escape(form), text)]
            spans += [(at, at + _RUN) for at in range(len(text) - _RUN + 1) if text[at : at + _RUN] in self._pieces]
        for first, last in spans:
            hidden[first:last] = b"\1" * (last - first)
        return hidden

    def _logprobs(self, logprobs: tuple[TokenLogprob, ...]) -> tuple[TokenLogprob, ...]:
        """Tokens that the key runs over become empty, and their alternatives go."""
        ends = accumulate(len(item.token) for item in logprobs)
        hidden = self._hidden("".join(item.token for item in logprobs))
        return tuple(
            TokenLogprob("", item.logprob) if any(hidden[end - len(item.token) : end]) else self._token(item)
            for item, end in zip(logprobs, ends, strict=True)
        )

    def _token(self, item: TokenLogprob) -> TokenLogprob:
        return TokenLogprob(
            self.clean(item.token), item.logprob, tuple((self.clean(text), value) for text, value in item.top)
        )


class _LogGuard(logging.Filter):
    """Redacts what a logger is about to hand on, its traceback too."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        if record.exc_text:  # the traceback may have been made into text by another account's guard
            record.exc_text = self._redactor.clean(record.exc_text)
        message = record.getMessage()
        if (clean := self._redactor.clean(message)) != message:
            record.msg, record.args = clean, ()
        return True


def guard_logs(redactor: Redactor) -> logging.Filter:
    """Keep the key out of what the SDKs and their transport log; undone by `release_logs`."""
    guard = _LogGuard(redactor)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(guard)
    return guard


def release_logs(guard: logging.Filter) -> None:
    """Take a guard off again."""
    for name in _LOGGERS:
        logging.getLogger(name).removeFilter(guard)


def _forms(key: str) -> set[str]:
    plain = {key, quote(key, safe=""), json.dumps(key)[1:-1], html.escape(key), repr(key)[1:-1], key.encode().hex()}
    return plain | _base64(key.encode())


def _base64(key: bytes) -> set[str]:
    """What the Base64 of any text with the key in it contains: three alignments, without the characters shared
    with what stands before and after."""
    forms: set[str] = set()
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + key).decode()
        first = -(-before * 8 // 6)
        last = (before + len(key)) * 8 // 6
        forms |= {coded[first:last], coded[first:last].replace("+", "-").replace("/", "_")}
    return forms


def _strings(reply: Reply) -> list[str]:
    calls = [text for call in reply.calls for text in (call.id, call.name, call.arguments)]
    return [reply.text, reply.model, reply.request_id or "", reply.fingerprint or "", reply.thoughts, *calls]
