"""`openrouter/<vendor>/<model>`: models of many vendors behind OpenRouter's one API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import BaseModel

from harness.clients.protocol import Capabilities, Reply, Request
from harness.clients.providers._chat import ChatDialect
from harness.clients.providers._endpoint import endpoint
from harness.clients.providers._sdk import SDKClient
from harness.clients.providers._settings import SDKSettings
from harness.clients.providers.openai import openai_client
from harness.errors import TaskError

__all__ = ["OpenRouterDialect", "OpenRouterProvider"]


class OpenRouterProvider:
    """OpenRouter; key in OPENROUTER_API_KEY. Its replies tell what they cost and who answered."""

    Settings: ClassVar[type[BaseModel]] = SDKSettings

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> SDKClient:
        """A client of a model such as `meta-llama/llama-3.3-70b-instruct`.

        Raises:
            MissingKey, TaskError: there is no key, or the address or the name is wrong.
        """
        assert isinstance(settings, SDKSettings)
        name = f"openrouter/{model}"
        if "/" not in model.strip("/"):
            raise TaskError(f'model "{name}": write it as openrouter/<vendor>/<model>')
        address = os.environ.get("OPENROUTER_BASE_URL") or "https://openrouter.ai/api/v1"
        where = endpoint(settings, name, address, "OPENROUTER_API_KEY")
        capabilities = Capabilities(
            logprobs=settings.logprobs,
            temperature=settings.temperature is not False,
            seed=True,
            context=settings.context,
            tools=True,
        )
        return openai_client(
            name, OpenRouterDialect(model, capabilities, "max_tokens", settings.extra), where, settings
        )


@dataclass(frozen=True, slots=True)
class OpenRouterDialect(ChatDialect):
    """Chat completions with OpenRouter's additions: the choice of a provider, and the cost."""

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body; asked for logprobs, only providers that give them may answer.

        Raises:
            MissingLogprobs: logprobs are asked for and the model gives none.
        """
        # Python's zero-argument super() fails in a dataclass with slots, which is a class made anew
        body = ChatDialect.body(self, request)
        body["usage"] = {"include": True} | _table(self.extra.get("usage"))
        if request.top_logprobs is not None or "provider" in self.extra:
            # else a provider that does not know the option would leave it out and be taken all the same
            needed = {} if request.top_logprobs is None else {"require_parameters": True}
            body["provider"] = needed | _table(self.extra.get("provider"))
        return body

    def reply(self, data: Mapping[str, Any], request: Request) -> Reply:
        """The reply in a chat completion, with its cost in dollars and who answered in front of the fingerprint.

        Raises:
            MissingLogprobs: it lacks the logprobs that were asked for.
            KeyError, TypeError, ValueError, IndexError, AttributeError: it is no chat completion.
        """
        if data["choices"][0].get("finish_reason") == "error":
            raise ValueError("the provider behind OpenRouter failed")
        reply = ChatDialect.reply(self, data, request)
        parts = [part for part in (data.get("provider"), reply.fingerprint) if part]
        usage = replace(reply.usage, cost=_cost(data.get("usage") or {}))
        return replace(reply, usage=usage, fingerprint="/".join(parts) or None)


def _cost(usage: Mapping[str, Any]) -> float | None:
    """Dollars; with a key of one's own for the vendor OpenRouter counts its fee alone, and the vendor's bill apart."""
    cost = usage.get("cost")
    if cost is None:
        return None
    details = usage.get("cost_details") or {}
    return cost + ((details.get("upstream_inference_cost") or 0.0) if usage.get("is_byok") else 0.0)


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
