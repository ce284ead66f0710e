"""OpenAI's completions, which base models' servers speak: a text goes on, or is echoed with its own logprobs.

Two shapes of logprobs are about: the lists that OpenAI defined, and those of chat completions, which llama.cpp's server
sends here too.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec

from harness.clients.protocol import Capabilities, Reply, Request
from harness.clients.providers._chat import finish_of, sampled_logprobs, sampling, usage_of
from harness.clients.providers._dialect import plain
from harness.errors import BadRequest, MissingLogprobs
from harness.values import TokenLogprob

__all__ = ["CompletionsDialect", "prompt_of", "spelled"]

# how OpenAI writes a token that holds a part of a character only
_BYTES = re.compile(r"bytes:((?:\\x[0-9a-f]{2})+)")


class _Choice(TypedDict, total=False):
    text: str
    finish_reason: Any
    logprobs: msgspec.Raw
    prompt_logprobs: Any  # vLLM's


class _Completion(TypedDict, total=False):
    id: Any
    model: Any
    choices: list[_Choice]
    usage: Any
    system_fingerprint: Any
    error: Any


_COMPLETION = msgspec.json.Decoder(_Completion)


class _Lists(msgspec.Struct):
    """Logprobs as OpenAI defined them for completions; `text_offset` is in characters."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] | None = None


_LISTS = msgspec.json.Decoder(_Lists)


@dataclass(frozen=True, slots=True)
class CompletionsDialect:
    """Completions; messages are sent as plain text, see `prompt_of`.

    The logprobs of a `continuation` come by echo: the text is echoed with one more token, which is dropped.
    """

    model: str
    capabilities: Capabilities
    extra: Mapping[str, Any]
    path: str = "/completions"

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body.

        Raises:
            MissingLogprobs: logprobs are asked for and the model gives none.
            BadRequest: tools are asked for.
        """
        if request.tools:
            raise BadRequest('completions take no tools; chat completions do (api = "chat")')
        body: dict[str, Any] = {"model": self.model, "prompt": prompt_of(request)}
        if request.continuation is not None:
            body["prompt"] += plain(request.continuation)
            return body | self._scoring(request) | dict(self.extra)
        body |= {"max_tokens": request.max_tokens, **sampling(request, self.capabilities)}
        if request.top_logprobs is not None:
            # some servers take 0 for none
            body["logprobs"] = max(request.top_logprobs, 1)
        return body | dict(self.extra)

    def _scoring(self, request: Request) -> dict[str, Any]:
        """The fields that have a text's logprobs told; some servers refuse, or do not heed, a limit of no token."""
        return {"max_tokens": 1, "logprobs": max(request.top_logprobs or 0, 1), "echo": True}

    def decode(self, content: bytes) -> Mapping[str, Any]:
        """A completion without what is not looked at; logprobs stay JSON.

        Raises:
            ValueError: it is no JSON, or no JSON that can be a reply.
        """
        return _COMPLETION.decode(content)

    def reply(self, data: Mapping[str, Any], request: Request) -> Reply:
        """The reply in a completion.

        Raises:
            MissingLogprobs: it lacks the logprobs that were asked for.
            KeyError, TypeError, ValueError, IndexError, AttributeError: it is no completion.
        """
        choice = data["choices"][0]
        text: str = choice["text"]
        given = request.continuation
        return Reply(
            text=text if given is None else given,
            finish=finish_of(choice.get("finish_reason")) if given is None else "stop",
            usage=usage_of(data.get("usage")),
            logprobs=self._logprobs(data, request, text),
            model=data.get("model") or "",
            request_id=data.get("id"),
            fingerprint=data.get("system_fingerprint"),
        )

    def _logprobs(self, data: Mapping[str, Any], request: Request, text: str) -> Sequence[TokenLogprob] | None:
        raw = data["choices"][0].get("logprobs")
        if request.continuation is not None:
            generated = (data.get("usage") or {}).get("completion_tokens")
            return _echoed(raw, request, text, 1 if generated is None else generated)
        if request.top_logprobs is None:
            return None
        lists = _lists(raw)
        if lists is None or not lists.tokens:
            return sampled_logprobs(raw, text)
        return tuple(_token(lists, at, token, request.top_logprobs) for at, token in enumerate(lists.tokens))


def prompt_of(request: Request) -> str:
    """The messages of a request as plain text: their contents with blank lines between, where a continuation follows.

    A reply is set off by a blank line too, unless the last message ends in white space of its own.
    """
    text = "\n\n".join(plain(message.content) for message in request.messages)
    return text if not text or request.continuation is not None or text[-1].isspace() else f"{text}\n\n"


def spelled(tokens: Sequence[TokenLogprob | None], text: str, start: int) -> tuple[TokenLogprob, ...]:
    """Those of a text's tokens that reach beyond the character `start`.

    The tokens are followed from the end of the text; None stands for the first of all where nothing is told of it.
    A blank before a token may be missing from it, as SentencePiece's tokens are shown one by one.

    Raises:
        MissingLogprobs: the tokens do not spell the text.
    """
    found: list[TokenLogprob] = []
    end = len(text)
    for at in range(len(tokens) - 1, -1, -1):
        item = tokens[at]
        if item is None:
            if at == 0 and end > start:
                found.append(TokenLogprob(text[:end], math.nan))
                end = 0
            break
        if found and end and text[end - 1] == " " and not text.endswith(item.token, 0, end):
            end -= 1
            last = found[-1]
            found[-1] = TokenLogprob(f" {last.token}", last.logprob, last.top)
        if end <= start and item.token:
            break
        if not text.endswith(item.token, 0, end):
            raise MissingLogprobs("the tokens whose logprobs came do not spell the text that was sent")
        end -= len(item.token)
        found.append(item)
    if end > start:
        raise MissingLogprobs("the tokens whose logprobs came do not spell the text that was sent")
    return tuple(reversed(found))


def _lists(raw: msgspec.Raw | None) -> _Lists | None:
    """The logprobs' lists, None where they are in no such shape."""
    try:
        return _LISTS.decode(raw or b"null")
    except msgspec.ValidationError:
        return None


def _echoed(raw: msgspec.Raw | None, request: Request, text: str, generated: int) -> tuple[TokenLogprob, ...]:
    """The logprobs of the continuation, of those of the echoed text and the `generated` tokens after it."""
    prefix = prompt_of(request)
    sent = prefix + plain(request.continuation or "")
    lists = _lists(raw)
    tokens = (lists.tokens or []) if lists is not None else []
    count = len(tokens) - generated
    if lists is None or not text.startswith(sent) or (count < 1 and sent):
        raise MissingLogprobs("the server does not echo a text with its logprobs")
    logprobs = lists.token_logprobs or []
    if len(logprobs) != len(tokens) or None in logprobs[1:]:
        raise MissingLogprobs("the server echoed the text without a logprob for each of its tokens")
    starts = _starts(lists, tokens)
    # the text's end and not its start: a tokenizer may put a mark or a blank before the text
    shift = starts[count] - len(sent)
    edge = len(prefix) + shift
    spans = itertools.pairwise(starts[: count + 1])
    first = next((at for at, (start, end) in enumerate(spans) if start >= edge or end > edge), count)
    if not _spell(tokens[first:count], plain(request.continuation or "")):
        raise MissingLogprobs("the tokens that the server echoed do not spell the text that was sent")
    top = request.top_logprobs or 0
    return tuple(_token(lists, at, tokens[at], top) for at in range(first, count))


def _spell(tokens: Sequence[str], text: str) -> bool:
    """Whether tokens spell a text at their end; blanks aside, and where no token holds a part of a character only."""
    if any(not token or "\ufffd" in token or _BYTES.fullmatch(token) for token in tokens):
        return True
    return "".join(tokens).replace(" ", "").endswith(text.replace(" ", ""))


def _starts(lists: _Lists, tokens: Sequence[str]) -> list[int]:
    """Where each token begins, and where the last one ends, in characters."""
    if lists.text_offset is not None and len(lists.text_offset) == len(tokens):
        return [*lists.text_offset, lists.text_offset[-1] + len(tokens[-1])] if tokens else [0]
    starts = [0]
    for token in tokens:
        starts.append(starts[-1] + len(token))
    return starts


def _token(lists: _Lists, at: int, token: str, top: int) -> TokenLogprob:
    """A token; the sampled one may stand among the alternatives beyond the number asked, so they are not counted."""
    logprob = (lists.token_logprobs or [])[at]
    others = (lists.top_logprobs[at] if lists.top_logprobs else None) or {}
    ranked = sorted(others.items(), key=lambda pair: -pair[1]) if top else []
    return TokenLogprob(
        _piece(token), math.nan if logprob is None else logprob, tuple((_piece(text), value) for text, value in ranked)
    )


def _piece(token: str) -> str:
    match = _BYTES.fullmatch(token)
    if match is None:
        return token
    return bytes.fromhex(match[1].replace("\\x", "")).decode("utf-8", "surrogateescape")
