"""Anthropic's messages as the fake provider speaks them, with tools and the caching of prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.testing.answers import Answer
from harness.testing.bill import Counted
from harness.testing.protocols import Conversation, Sent, Spoken, compact, location, spoken, text_of
from harness.testing.rate import Level
from harness.testing.tokens import Tokens

__all__ = ["AnthropicMessages"]

_FOREIGN = {"logprobs", "top_logprobs", "seed", "stop", "max_completion_tokens"}
_FINISH = {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal", "calls": "tool_use"}
_CACHED = 1024  # tokens that a prefix has to have to be cached


class AnthropicMessages:
    """`/v1/messages`.

    A prefix that ends in a block with `cache_control` is written to the cache the first time and read from it later;
    as with the real one not below 1,024 tokens, and here for as long as the server lives. A shorter prefix that was
    written once is read by a longer one too.
    """

    id_header = "request-id"

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._cached: set[bytes] = set()

    def conversations(self, body: Mapping[str, Any]) -> Sequence[Conversation]:
        """The conversation, the system prompt first; results of tools are messages of the role tool."""
        system = [{"role": "system", "content": text_of(body["system"])}] if "system" in body else []
        return ([*system, *(plain for message in body["messages"] for plain in _plain(message))],)

    def check(self, body: Mapping[str, Any]) -> str | None:
        """What is wrong with a request, None where nothing is."""
        if "max_tokens" not in body:
            return "max_tokens: Field required"
        if unknown := sorted(_FOREIGN & set(body)):
            return f"{unknown[0]}: Extra inputs are not permitted"
        tools = body.get("tools", [])
        if not isinstance(tools, list) or not all("name" in tool and "input_schema" in tool for tool in tools):
            return "tools: each needs a name and an input_schema"
        return _wrong_messages(body) or _wrong_thoughts(body)

    def reply(
        self, body: Mapping[str, Any], answers: Sequence[Answer], request_id: str, seed: int, *, unbounded: bool
    ) -> Sent:
        """A message.

        Raises:
            ValueError: a tool call's arguments are no JSON, which this protocol cannot carry.
        """
        (answer,) = answers
        limit = None if unbounded else body["max_tokens"]
        said = spoken(answer, seed, 0, limit, body.get("stop_sequences") or (), self._tokens)
        counted = self._counted(body, said)
        data = {
            "id": f"msg_{request_id}",
            "type": "message",
            "role": "assistant",
            "model": body.get("model", ""),
            "content": _content(said),
            "stop_reason": _FINISH[said.finish],
            "stop_sequence": None,
            "usage": {
                "input_tokens": counted.input,
                "cache_creation_input_tokens": counted.cache_write,
                "cache_read_input_tokens": counted.cache_read,
                "output_tokens": counted.output,
                "output_tokens_details": {"thinking_tokens": counted.reasoning},
            },
        }
        return Sent(200, data, {self.id_header: request_id}, counted=counted)

    def without_logprobs(self, data: dict[str, Any]) -> None:
        """There are none."""

    def error(self, status: int, code: str, message: str, request_id: str) -> Sent:
        """An error."""
        data = {"type": "error", "error": {"type": code, "message": message}, "request_id": request_id}
        return Sent(status, data, {self.id_header: request_id} | location(status))

    def rate_headers(self, levels: Mapping[str, Level]) -> dict[str, str]:
        """How much is left of the rates of `requests` and `tokens`; resets are times."""
        headers: dict[str, str] = {}
        now = datetime.now(UTC)
        for what, level in levels.items():
            headers[f"anthropic-ratelimit-{what}-limit"] = str(int(level.minute))
            headers[f"anthropic-ratelimit-{what}-remaining"] = str(int(level.remaining))
            headers[f"anthropic-ratelimit-{what}-reset"] = (now + timedelta(seconds=level.reset)).isoformat()
        return headers

    def _counted(self, body: Mapping[str, Any], said: Spoken) -> Counted:
        hashed = hashlib.sha256(str(body.get("model")).encode())
        total = known = marked = read = 0
        found: list[bytes] = []
        for text, mark, begins in _blocks(body):
            hashed.update(text.encode("utf-8", "surrogatepass") + b"\0")
            total += self._tokens.count(text) + (self._tokens.message if begins else 0)
            known = total if hashed.digest() in self._cached else known
            if mark and total >= _CACHED:
                marked, read = total, known
                found.append(hashed.digest())
        self._cached.update(found)
        return Counted(total - marked, said.output, read, marked - read, said.reasoning)


def _blocks(body: Mapping[str, Any]) -> Iterator[tuple[str, bool, bool]]:
    """The prompt's pieces in the order of the cache: text, whether a cached prefix ends here, whether a turn begins."""
    pieces = [(compact(_unmarked(tool)), "cache_control" in tool, False) for tool in body.get("tools", ())]
    turns = [body["system"]] if "system" in body else []
    for content in [*turns, *(message["content"] for message in body["messages"])]:
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        pieces += [(_said(block), "cache_control" in block, place == 0) for place, block in enumerate(blocks)]
    if "cache_control" in body and pieces:
        text, _, begins = pieces.pop()
        pieces.append((text, True, begins))
    yield from pieces


def _unmarked(block: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "cache_control"}


def _said(block: Mapping[str, Any]) -> str:
    return block["text"] if block.get("type") == "text" else compact(_unmarked(block))


def _plain(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A message as chat completions have it: its text and calls, after the results of tools in it."""
    content = message["content"]
    if isinstance(content, str):
        yield {"role": message["role"], "content": content}
        return
    others = [block for block in content if block["type"] != "tool_result"]
    for block in content:
        if block["type"] == "tool_result":
            yield {"role": "tool", "content": text_of(block.get("content")), "tool_call_id": block["tool_use_id"]}
    if others:
        yield {"role": message["role"], "content": text_of(others)} | _calls(others)


def _calls(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    calls = [
        {"id": block["id"], "function": {"name": block["name"], "arguments": json.dumps(block["input"])}}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    return {"tool_calls": calls} if calls else {}


def _content(said: Spoken) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if said.reasoning:
        thought = f"Let me think: {said.text[:20] or 'what do I call?'}"
        blocks.append({"type": "thinking", "thinking": thought, "signature": _signature(thought)})
    if said.text:
        blocks.append({"type": "text", "text": said.text})
    for call in said.calls:
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)})
    return blocks


def _signature(thought: str) -> str:
    return hashlib.sha256(thought.encode()).hexdigest()[:16]


def _wrong_thoughts(body: Mapping[str, Any]) -> str | None:
    """Thinking is part of a turn that calls tools, and nobody else's."""
    for number, message in enumerate(body["messages"]):
        blocks = [] if isinstance(message["content"], str) else message["content"]
        if (body.get("thinking") or {}).get("type") == "enabled" and any(b["type"] == "tool_use" for b in blocks):
            found = blocks[0]["type"]
            if found not in ("thinking", "redacted_thinking"):
                return f"messages.{number}.content.0.type: Expected `thinking`, but found `{found}`"
        for at, block in enumerate(blocks):
            if block["type"] == "thinking" and block.get("signature") != _signature(block["thinking"]):
                return f"messages.{number}.content.{at}: Invalid `signature` in `thinking` block"
    return None


def _wrong_messages(body: Mapping[str, Any]) -> str | None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    if messages[0].get("role") != "user":
        return "messages: first message must use the user role"
    called: set[str] = set()
    for message in messages:
        blocks = message.get("content")
        if message.get("role") not in ("user", "assistant") or not isinstance(blocks, str | list) or not blocks:
            return "messages: a message needs content and one of the roles user, assistant"
        for block in () if isinstance(blocks, str) else blocks:
            if block.get("type") == "text" and not block.get("text"):
                return "messages: text content blocks must be non-empty"
            if block.get("type") == "tool_result" and block.get("tool_use_id") not in called:
                return "messages: unexpected tool_use_id in a tool_result block"
            if block.get("type") == "tool_use":
                called.add(block["id"])
    return None
