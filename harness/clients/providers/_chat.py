"""OpenAI's chat completions, which most servers speak: requests as bodies, and bodies as replies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import msgspec

from harness.clients.logprobs import RawLogprobs, set_apart
from harness.clients.protocol import Capabilities, FinishReason, Reply, Request
from harness.clients.providers._dialect import joined, plain
from harness.errors import MissingLogprobs
from harness.questions.messages import Message, Tool, ToolCall
from harness.values import TokenLogprob, Usage

__all__ = ["ChatDialect", "finish_of", "sampled_logprobs", "sampling", "usage_of"]

# What servers tell of a model's thoughts and want back with the results of its calls: DeepSeek refuses a conversation
# without it, and OpenRouter hands it on to the provider behind it.
_THOUGHTS = ("reasoning_content", "reasoning_details")
_LENGTH = ("length", "max_tokens", "model_length")


class _Choice(TypedDict, total=False):
    message: dict[str, Any]
    finish_reason: Any
    logprobs: msgspec.Raw


class _Completion(TypedDict, total=False):
    id: Any
    model: Any
    choices: list[_Choice]
    usage: Any
    system_fingerprint: Any
    error: Any
    provider: Any  # OpenRouter's
    prompt_logprobs: Any  # vLLM's


_NULL = msgspec.Raw(b"null")
_COMPLETION = msgspec.json.Decoder(_Completion)


@dataclass(frozen=True, slots=True)
class ChatDialect:
    """Chat completions: `limit` is the field that bounds the reply, which OpenAI renamed and most servers did not."""

    model: str
    capabilities: Capabilities
    limit: Literal["max_completion_tokens", "max_tokens"]
    extra: Mapping[str, Any]
    path: str = "/chat/completions"

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body; a temperature is left out for models that take none.

        Raises:
            MissingLogprobs: logprobs are asked for and the model gives none, or those of a text that is given.
        """
        if request.continuation is not None:
            raise MissingLogprobs("chat completions give no logprobs of a given text")
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [_turn(message) for message in request.messages],
            self.limit: request.max_tokens,
            **sampling(request, self.capabilities),
        }
        if request.top_logprobs is not None:
            # some servers give none for `logprobs` alone
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
        return body | dict(self.extra)

    def decode(self, content: bytes) -> Mapping[str, Any]:
        """A chat completion without what is not looked at; logprobs stay JSON, and nobody has looked whether it is.

        Raises:
            ValueError: it is no JSON, or no JSON that can be a reply.
        """
        if (parts := set_apart(content)) is not None:
            with suppress(ValueError):
                data = _COMPLETION.decode(parts[0])
                choices = data.get("choices") or ()
                if len(choices) == 1 and choices[0].get("logprobs") == _NULL:
                    choices[0]["logprobs"] = parts[1]
                    return data
        return _COMPLETION.decode(content)

    def reply(self, data: Mapping[str, Any], request: Request) -> Reply:
        """The reply in a chat completion.

        Raises:
            MissingLogprobs: it lacks the logprobs that were asked for.
            KeyError, TypeError, ValueError, IndexError, AttributeError: it is no chat completion.
        """
        choice = data["choices"][0]
        message = choice["message"]
        text = _text(message)
        calls = _calls(message)
        return Reply(
            text=text,
            finish=finish_of(choice.get("finish_reason"), refused=bool(message.get("refusal")), calls=bool(calls)),
            usage=usage_of(data.get("usage")),
            logprobs=None if request.top_logprobs is None else sampled_logprobs(choice.get("logprobs"), text),
            model=data.get("model") or "",
            request_id=data.get("id"),
            calls=calls,
            thoughts=_thoughts(message) if calls else "",
            fingerprint=data.get("system_fingerprint"),
        )


def sampling(request: Request, capabilities: Capabilities) -> dict[str, Any]:
    """The fields of a body that say how to draw.

    Raises:
        MissingLogprobs: logprobs are asked for and the model gives none.
    """
    if request.top_logprobs is not None and capabilities.logprobs is False:
        raise MissingLogprobs("this model gives no logprobs")
    fields: dict[str, Any] = {}
    if request.temperature is not None and capabilities.temperature:
        fields["temperature"] = request.temperature
    if request.seed is not None:
        fields["seed"] = request.seed
    if request.stop:
        fields["stop"] = list(request.stop)
    return fields


def finish_of(reason: Any, *, refused: bool = False, calls: bool = False) -> FinishReason:
    """Why a reply ended, of what servers say: their words differ, and some say `stop` beside tool calls."""
    if refused or reason == "content_filter":
        return "refusal"
    if reason in _LENGTH:
        return "length"
    return "calls" if calls else "stop"


def usage_of(data: Mapping[str, Any] | None) -> Usage:
    """Tokens billed; cached ones are part of the prompt's count."""
    if not data:
        return Usage(requests=1)
    prompt = data.get("prompt_tokens_details") or {}
    completion = data.get("completion_tokens_details") or {}
    read, written = prompt.get("cached_tokens") or 0, prompt.get("cache_write_tokens") or 0
    return Usage(
        input=max((data.get("prompt_tokens") or 0) - read - written, 0),
        cache_read=read,
        cache_write=written,
        output=data.get("completion_tokens") or 0,
        reasoning=completion.get("reasoning_tokens") or 0,
        requests=1,
    )


def sampled_logprobs(logprobs: msgspec.Raw | None, text: str) -> Sequence[TokenLogprob]:
    """The logprobs of a reply's text, of a choice's field as JSON.

    Raises:
        MissingLogprobs: there are none.
    """
    found = RawLogprobs(logprobs or b"null")
    if found.filled:
        return found
    # A reply without tokens has no logprobs, and llama.cpp gives none where a reply ends within a character.
    if not text or text.endswith("\ufffd"):
        return ()
    raise MissingLogprobs("the reply has no logprobs though they were asked for")


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": plain(message.content)}
    if message.calls:
        turn |= json.loads(plain(message.thoughts) or "{}")
        turn["content"] = turn["content"] or None
        turn["tool_calls"] = [_call(call) for call in message.calls]
    if message.answers is not None:
        turn["tool_call_id"] = message.answers
    return turn


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": plain(call.arguments)}}


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if content is None:
        content = message.get("refusal") or ""
    return content if isinstance(content, str) else joined(content)


def _calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """The tool calls; some servers give arguments as an object and not as its text."""
    calls = [(call.get("id") or "", call["function"]) for call in message.get("tool_calls") or ()]
    return tuple(ToolCall(name, function["name"], _arguments(function)) for name, function in calls)


def _thoughts(message: Mapping[str, Any]) -> str:
    told = {name: message[name] for name in _THOUGHTS if message.get(name) is not None}
    return json.dumps(told, ensure_ascii=False) if told else ""


def _arguments(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments") or ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
