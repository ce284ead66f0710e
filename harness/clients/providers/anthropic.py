"""`anthropic/...`: Anthropic's messages through the official SDK."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from pydantic import BaseModel

from harness.clients.protocol import Capabilities, FinishReason, Reply, Request
from harness.clients.providers._sdk import SDKClient, SDKSettings, endpoint, joined, plain, transport
from harness.errors import MissingLogprobs
from harness.values import Usage

__all__ = ["AnthropicProvider", "MessagesDialect"]

_FINISH: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_CONNECTIONS = 1000
# Later models, and any that this does not know, refuse a temperature: "`temperature` is deprecated for this model".
_TEMPERATURE = re.compile(r"claude-(?:[123]\b|instant\b|(?:opus|sonnet|haiku)-4(?:-[0-6]\b|-\d{8}|$))")


_MESSAGE = msgspec.json.Decoder(dict[str, Any])


class AnthropicProvider:
    """Anthropic's API; key in ANTHROPIC_API_KEY. It gives no logprobs."""

    Settings: ClassVar[type[BaseModel]] = SDKSettings

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> SDKClient:
        """A client of a model such as `claude-sonnet-5`.

        Raises:
            MissingKey, TaskError: there is no key, or the address is wrong.
        """
        assert isinstance(settings, SDKSettings)
        name = f"anthropic/{model}"
        address = os.environ.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
        where = endpoint(settings, name, address, "ANTHROPIC_API_KEY")
        takes = _TEMPERATURE.match(model) is not None if settings.temperature is None else settings.temperature
        capabilities = Capabilities(logprobs=False, temperature=takes, seed=False, context=settings.context)
        # only now: the import takes seconds, and a missing key need not wait for it
        import anthropic

        # its tracing is off: it costs a quarter of a call's time and writes errors to spans
        connection = anthropic.AsyncAnthropic(
            api_key=where.key,
            base_url=where.base_url,
            open_telemetry=False,
            **transport(anthropic, settings, settings.requests or _CONNECTIONS),
        )
        return SDKClient(
            name, MessagesDialect(model, capabilities, settings.extra), where, connection, settings.requests
        )


@dataclass(frozen=True, slots=True)
class MessagesDialect:
    """The messages API."""

    model: str
    capabilities: Capabilities
    extra: Mapping[str, Any]
    path: str = "/v1/messages"

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body; a temperature is left out for models that take none, a seed always.

        Raises:
            MissingLogprobs: logprobs are asked for.
        """
        if request.top_logprobs is not None:
            raise MissingLogprobs("this provider gives no logprobs")
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_tokens,
            "messages": [{"role": m.role, "content": plain(m.content)} for m in request.messages if m.role != "system"],
        }
        if system := "\n\n".join(plain(m.content) for m in request.messages if m.role == "system"):
            body["system"] = system
        if request.temperature is not None and self.capabilities.temperature:
            body["temperature"] = request.temperature
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        return body | dict(self.extra)

    def decode(self, content: bytes) -> Mapping[str, Any]:
        """A message.

        Raises:
            ValueError: it is no JSON, or no JSON that can be a reply.
        """
        return _MESSAGE.decode(content)

    def reply(self, data: Mapping[str, Any], request: Request) -> Reply:  # noqa: ARG002 - a Dialect's shape
        """The reply in a message.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no message.
        """
        return Reply(
            text=joined(data["content"]),
            finish=_FINISH.get(data.get("stop_reason") or "", "stop"),
            usage=_usage(data.get("usage") or {}),
            model=data.get("model") or "",
            request_id=data.get("id"),
        )


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
