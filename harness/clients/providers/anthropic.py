"""`anthropic/...`: Anthropic's messages through the official SDK."""

from __future__ import annotations

import os
import re
from typing import ClassVar

from pydantic import BaseModel

from harness.clients.protocol import Capabilities
from harness.clients.providers._batches import AnthropicBatches
from harness.clients.providers._endpoint import endpoint
from harness.clients.providers._messages import MessagesDialect
from harness.clients.providers._sdk import SDKClient
from harness.clients.providers._settings import SDKSettings

__all__ = ["AnthropicProvider", "AnthropicSettings"]

_CONNECTIONS = 1000
# Later models, and any that this does not know, refuse a temperature: "`temperature` is deprecated for this model".
_TEMPERATURE = re.compile(r"claude-(?:[123]\b|instant\b|(?:opus|sonnet|haiku)-4(?:-[0-6]\b|-\d{8}|$))")


class AnthropicSettings(SDKSettings):
    """Settings of a model behind Anthropic's API; `cache = false` has nothing kept of a prompt's constant part."""

    cache: bool = True


class AnthropicProvider:
    """Anthropic's API; key in ANTHROPIC_API_KEY. It gives no logprobs."""

    Settings: ClassVar[type[BaseModel]] = AnthropicSettings
    batches: ClassVar[bool] = True

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> SDKClient:
        """A client of a model such as `claude-sonnet-5`.

        Raises:
            MissingKey, TaskError: there is no key, or the address is wrong.
        """
        assert isinstance(settings, AnthropicSettings)
        name = f"anthropic/{model}"
        address = os.environ.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
        where = endpoint(settings, name, address, "ANTHROPIC_API_KEY")
        takes = _TEMPERATURE.match(model) is not None if settings.temperature is None else settings.temperature
        capabilities = Capabilities(logprobs=False, temperature=takes, context=settings.context, tools=True)
        # only now: the import takes seconds, and a missing key need not wait for it
        import anthropic

        from harness.clients.providers._transport import Repeating, transport

        # its name is in the user agent
        class AsyncAnthropic(Repeating, anthropic.AsyncAnthropic): ...

        # its tracing is off: it costs a quarter of a call's time and writes errors to spans
        connection = AsyncAnthropic(
            api_key=where.key,
            base_url=where.base_url,
            open_telemetry=False,
            **transport(settings.timeout, settings.requests or _CONNECTIONS),
        )
        dialect = MessagesDialect(model, capabilities, settings.extra, settings.cache)
        client = SDKClient(name, dialect, where, connection, settings)
        if settings.batch:
            client.batches = AnthropicBatches(client)
        return client
