"""Replies as JSON-able values and back, without loss."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.clients.logprobs import RawLogprobs
from harness.clients.packing import pack, pack_json, unpack, unpack_json
from harness.clients.protocol import Reply
from harness.clients.vectors import Vectors
from harness.questions.messages import ToolCall
from harness.values import TokenLogprob, Usage

__all__ = ["pack_reply", "reply_from_data", "reply_to_data", "unpack_reply"]

_USAGE = ("input", "cache_read", "cache_write", "output", "reasoning", "requests", "cost")
_NONE = Usage()


def reply_to_data(reply: Reply) -> dict[str, Any]:
    """A reply as a JSON-able value; what is at its default is left out.

    Text may hold lone surrogates (half a character in a token), so the JSON has to be written with `\\u` escapes or
    encoded with `surrogatepass`. Logprobs may be `-inf`, which Python's `json` writes and reads.
    """
    data: dict[str, Any] = {"text": reply.text, "finish": reply.finish}
    used = {name: value for name in _USAGE if (value := getattr(reply.usage, name)) != getattr(_NONE, name)}
    if used:
        data["usage"] = used
    if reply.model:
        data["model"] = reply.model
    if reply.request_id is not None:
        data["request_id"] = reply.request_id
    if reply.calls:
        data["calls"] = [[call.id, call.name, call.arguments] for call in reply.calls]
    if reply.thoughts:
        data["thoughts"] = reply.thoughts
    if reply.fingerprint is not None:
        data["fingerprint"] = reply.fingerprint
    if reply.vectors is not None:
        data["vectors"] = [reply.vectors.width, base64.b64encode(reply.vectors.data).decode()]
    if isinstance(reply.logprobs, RawLogprobs):
        data["chat_logprobs"] = json.loads(reply.logprobs.raw)
    elif reply.logprobs is not None:
        data["logprobs"] = [[item.token, item.logprob, [list(pair) for pair in item.top]] for item in reply.logprobs]
    return data


def reply_from_data(data: Mapping[str, Any]) -> Reply:
    """The reply that `reply_to_data` wrote."""
    logprobs: Sequence[TokenLogprob] | None = None
    if (raw := data.get("chat_logprobs")) is not None:
        logprobs = RawLogprobs(json.dumps(raw).encode())
    elif (items := data.get("logprobs")) is not None:
        logprobs = tuple(_token(item) for item in items)
    vectors = data.get("vectors")
    return Reply(
        text=data["text"],
        finish=data["finish"],
        usage=Usage(**data.get("usage", {})),
        logprobs=logprobs,
        model=data.get("model", ""),
        request_id=data.get("request_id"),
        calls=tuple(ToolCall(*call) for call in data.get("calls", ())),
        fingerprint=data.get("fingerprint"),
        vectors=None if vectors is None else Vectors(vectors[0], base64.b64decode(vectors[1])),
        thoughts=data.get("thoughts", ""),
    )


def pack_reply(reply: Reply) -> tuple[bytes, bytes | None]:
    """A reply as blobs: all of it but logprobs that are JSON as received, and these."""
    if not isinstance(reply.logprobs, RawLogprobs):
        return pack(reply_to_data(reply)), None
    return pack(reply_to_data(replace(reply, logprobs=None))), pack_json(reply.logprobs.view)


def unpack_reply(blob: bytes, logprobs: bytes | None) -> Reply:
    """The reply that `pack_reply` packed."""
    reply = reply_from_data(unpack(blob))
    return reply if logprobs is None else replace(reply, logprobs=RawLogprobs(unpack_json(logprobs)))


def _token(item: list[Any]) -> TokenLogprob:
    token, logprob, top = item
    return TokenLogprob(token, logprob, tuple((text, value) for text, value in top))
