"""Replies as JSON-able values and back, without loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.clients.protocol import Reply
from harness.values import TokenLogprob, Usage

__all__ = ["reply_from_data", "reply_to_data"]

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
    if reply.logprobs is not None:
        data["logprobs"] = [[item.token, item.logprob, [list(pair) for pair in item.top]] for item in reply.logprobs]
    return data


def reply_from_data(data: Mapping[str, Any]) -> Reply:
    """The reply that `reply_to_data` wrote."""
    logprobs = data.get("logprobs")
    return Reply(
        text=data["text"],
        finish=data["finish"],
        usage=Usage(**data.get("usage", {})),
        logprobs=None if logprobs is None else tuple(_token(item) for item in logprobs),
        model=data.get("model", ""),
        request_id=data.get("request_id"),
    )


def _token(item: list[Any]) -> TokenLogprob:
    token, logprob, top = item
    return TokenLogprob(token, logprob, tuple((text, value) for text, value in top))
