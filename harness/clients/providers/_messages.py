"""Anthropic's messages, which llama.cpp's server speaks too: requests as bodies, and bodies as replies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from harness.clients.protocol import Capabilities, FinishReason, Reply, Request
from harness.clients.providers._dialect import joined, plain
from harness.errors import BadRequest, MissingLogprobs
from harness.questions.messages import Message, ToolCall
from harness.values import Usage

__all__ = ["MessagesDialect"]

_FINISH: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "tool_use": "calls",
}
# Refused where thinking is on: a turn with calls that lacks what led to them, or has it changed.
_THOUGHTS = ("thinking", "redacted_thinking")
# A shorter prefix is not cached by any model; by some only a longer one is, and the mark does nothing then.
_CACHED = 1024
_BYTES_PER_TOKEN = 4

_MESSAGE = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class MessagesDialect:
    """The messages API.

    With `cache` the provider is asked to keep what comes before the last turn, the part that many requests share,
    where that is some 1,024 tokens or more, estimated at four bytes a token. Writing it costs a quarter more than
    sending it, and reading it again a tenth.
    """

    model: str
    capabilities: Capabilities
    extra: Mapping[str, Any]
    cache: bool = True
    path: str = "/v1/messages"

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body; a temperature is left out for models that take none, a seed always.

        Raises:
            MissingLogprobs: logprobs are asked for.
            BadRequest: a tool call's arguments are no JSON object.
        """
        if request.top_logprobs is not None or request.continuation is not None:
            raise MissingLogprobs("this provider gives no logprobs")
        system = "\n\n".join(plain(m.content) for m in request.messages if m.role == "system")
        messages = list(_turns([m for m in request.messages if m.role != "system"]))
        tools = [{"name": t.name, "description": t.description, "input_schema": t.parameters} for t in request.tools]
        body: dict[str, Any] = {"model": self.model, "max_tokens": request.max_tokens, "messages": messages}
        if system:
            body["system"] = system
        if tools:
            body["tools"] = tools
        if request.temperature is not None and self.capabilities.temperature:
            body["temperature"] = request.temperature
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if self.cache and _size([tools, system, messages[:-1]]) >= _CACHED:
            _mark(body)
        return body | dict(self.extra)

    def decode(self, content: bytes) -> Mapping[str, Any]:
        """A message.

        Raises:
            ValueError: it is no JSON, or no JSON that can be a reply.
        """
        return _MESSAGE.decode(content)

    def reply(self, data: Mapping[str, Any], request: Request) -> Reply:  # noqa: ARG002 - a Dialect's shape
        """The reply in a message; what the model thought goes along where it called tools, and is left out elsewhere.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no message.
        """
        blocks: Sequence[Mapping[str, Any]] = data["content"]
        return Reply(
            text=joined(blocks),
            finish=_FINISH.get(data.get("stop_reason") or "", "stop"),
            usage=_usage(data.get("usage") or {}),
            model=data.get("model") or "",
            request_id=data.get("id"),
            calls=tuple(_call(block) for block in blocks if block["type"] == "tool_use"),
            thoughts=_thoughts(blocks),
        )


def _turns(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    """The conversation; the answers to all calls of one turn, and what the user says then, are one turn."""
    results: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            content = plain(message.content)
            results.append({"type": "tool_result", "tool_use_id": message.answers or "", "content": content})
        elif results and message.role == "user":
            results.append(_text(message.content))
        else:
            if results:
                yield {"role": "user", "content": results}
                results = []
            yield {"role": message.role, "content": _content(message)}
    if results:
        yield {"role": "user", "content": results}


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.calls:
        return plain(message.content)
    said: list[dict[str, Any]] = [_text(message.content)] if message.content else []
    if message.thoughts:
        said = json.loads(plain(message.thoughts))
    return [*said, *({"type": "tool_use", "id": c.id, "name": c.name, "input": _arguments(c)} for c in message.calls)]


def _thoughts(blocks: Sequence[Mapping[str, Any]]) -> str:
    """What a model thought and said before its calls, all as it came; nothing where it thought or called nothing."""
    before = [block for block in blocks if block["type"] != "tool_use"]
    if len(before) == len(blocks) or not any(block["type"] in _THOUGHTS for block in before):
        return ""
    return json.dumps(before, ensure_ascii=False)


def _text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": plain(content)}


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(plain(call.arguments) or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise BadRequest(f"the arguments of the call of {call.name} are no JSON object, which this provider needs")
    return arguments


def _call(block: Mapping[str, Any]) -> ToolCall:
    return ToolCall(block["id"], block["name"], json.dumps(block["input"], ensure_ascii=False))


def _size(parts: Any) -> int:
    """About how many tokens it is."""
    return len(msgspec.json.encode(parts)) // _BYTES_PER_TOKEN


def _mark(body: dict[str, Any]) -> None:
    """Put the mark of what is to be kept on the last block before the last turn."""
    mark = {"cache_control": {"type": "ephemeral"}}
    *before, _ = body["messages"]
    if before:
        content = before[-1]["content"]
        blocks = [_text(content)] if isinstance(content, str) else content
        before[-1]["content"] = [*blocks[:-1], blocks[-1] | mark]
    elif "system" in body:
        body["system"] = [_text(body["system"]) | mark]
    else:
        body["tools"] = [*body["tools"][:-1], body["tools"][-1] | mark]


def _usage(data: Mapping[str, Any]) -> Usage:
    """Tokens billed; cached ones are counted apart from `input_tokens`."""
    details = data.get("output_tokens_details") or {}
    return Usage(
        input=data.get("input_tokens") or 0,
        cache_read=data.get("cache_read_input_tokens") or 0,
        cache_write=data.get("cache_creation_input_tokens") or 0,
        output=data.get("output_tokens") or 0,
        reasoning=details.get("thinking_tokens") or 0,
        requests=1,
    )
