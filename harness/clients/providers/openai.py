"""`openai/...`: OpenAI's chat completions through the official SDK, and the dialect that compatible servers share."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypedDict

import msgspec
from pydantic import BaseModel

from harness.clients.logprobs import RawLogprobs
from harness.clients.protocol import Capabilities, FinishReason, Reply, Request
from harness.clients.providers._sdk import Endpoint, SDKClient, SDKSettings, endpoint, joined, plain, transport
from harness.errors import MissingLogprobs
from harness.values import TokenLogprob, Usage

__all__ = ["ChatDialect", "OpenAIProvider", "chat_client"]

# Families that reason give no logprobs and take no temperature ("unsupported_parameter"); their chat variants do.
_REASONING = re.compile(r"(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*chat)")
_LENGTH = ("length", "max_tokens", "model_length")
# connections kept open where neither task nor settings say how many requests go at once
_CONNECTIONS = 1000


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


_COMPLETION = msgspec.json.Decoder(_Completion)


class OpenAIProvider:
    """OpenAI's own API; key in OPENAI_API_KEY."""

    Settings: ClassVar[type[BaseModel]] = SDKSettings

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> SDKClient:
        """A client of a model such as `gpt-5-mini`.

        Raises:
            MissingKey, TaskError: there is no key, or the address is wrong.
        """
        assert isinstance(settings, SDKSettings)
        name = f"openai/{model}"
        address = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        where = endpoint(settings, name, address, "OPENAI_API_KEY")
        reasoning = _REASONING.match(model) is not None
        capabilities = Capabilities(
            logprobs=not reasoning if settings.logprobs is None else settings.logprobs,
            temperature=not reasoning if settings.temperature is None else settings.temperature,
            seed=True,
            context=settings.context,
        )
        return chat_client(
            name, ChatDialect(model, capabilities, "max_completion_tokens", settings.extra), where, settings
        )


def chat_client(name: str, dialect: ChatDialect, where: Endpoint, settings: SDKSettings) -> SDKClient:
    """A client of a server that speaks OpenAI's chat completions."""
    import openai

    options = transport(openai, settings, settings.requests or _CONNECTIONS)
    connection = openai.AsyncOpenAI(api_key=where.key, base_url=where.base_url, **options)
    return SDKClient(name, dialect, where, connection, settings.requests)


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
            MissingLogprobs: logprobs are asked for and the model gives none.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": plain(m.content)} for m in request.messages],
            self.limit: request.max_tokens,
        }
        if request.temperature is not None and self.capabilities.temperature:
            body["temperature"] = request.temperature
        if request.top_logprobs is not None:
            if not self.capabilities.logprobs:
                raise MissingLogprobs("this model gives no logprobs")
            # some servers give none for `logprobs` alone
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        return body | dict(self.extra)

    def decode(self, content: bytes) -> Mapping[str, Any]:
        """A chat completion without what is not looked at; logprobs stay JSON.

        Raises:
            ValueError: it is no JSON, or no JSON that can be a reply.
        """
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
        finish = _finish(choice, message)
        wanted = request.top_logprobs is not None
        return Reply(
            text=text,
            finish=finish,
            usage=_usage(data.get("usage")),
            logprobs=_logprobs(choice, text) if wanted else None,
            model=data.get("model") or "",
            request_id=data.get("id"),
            fingerprint=data.get("system_fingerprint"),
        )


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if content is None:
        content = message.get("refusal") or ""
    return content if isinstance(content, str) else joined(content)


def _finish(choice: Mapping[str, Any], message: Mapping[str, Any]) -> FinishReason:
    reason = choice.get("finish_reason")
    if message.get("refusal") or reason == "content_filter":
        return "refusal"
    return "length" if reason in _LENGTH else "stop"


def _usage(data: Mapping[str, Any] | None) -> Usage:
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


def _logprobs(choice: Mapping[str, Any], text: str) -> Sequence[TokenLogprob]:
    found = RawLogprobs(bytes(choice.get("logprobs") or b"null"))
    if found.filled:
        return found
    # A reply without tokens has no logprobs, and llama.cpp gives none where a reply ends within a character.
    if not text or text.endswith("\ufffd"):
        return ()
    raise MissingLogprobs("the reply has no logprobs though they were asked for")
