"""`openai/...`: OpenAI's chat completions and completions through the official SDK; what compatible servers share."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import BaseModel

from harness.clients.protocol import Capabilities
from harness.clients.providers._batches import OpenAIBatches
from harness.clients.providers._chat import ChatDialect
from harness.clients.providers._completions import CompletionsDialect
from harness.clients.providers._dialect import Dialect
from harness.clients.providers._embeddings import EmbeddingsDialect
from harness.clients.providers._endpoint import Endpoint, endpoint
from harness.clients.providers._sdk import SDKClient
from harness.clients.providers._settings import SDKSettings

__all__ = ["OpenAIProvider", "OpenAISettings", "compatible_client", "openai_client"]

# Families that reason give no logprobs and take no temperature ("unsupported_parameter"); their chat variants do.
_REASONING = re.compile(r"(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*chat)")
# families that write, and give no embeddings; and those that give nothing else, each text of at most 8,192 tokens
_WRITING = re.compile(r"(?:ft:)?(?:gpt|chatgpt|o\d)\b")
_EMBEDDING = re.compile(r"text-embedding-")
_EMBEDDING_CONTEXT = 8192
_COMPLETIONS_TOP = 5  # alternatives that OpenAI's completions give at most
# connections kept open where neither task nor settings say how many requests go at once
_CONNECTIONS = 1000


class OpenAISettings(SDKSettings):
    """Settings of a model behind OpenAI's API or one like it.

    `api` says which of the two it is asked by: `chat` completions, or `completions` of plain text, which base models
    take and by which some servers tell the logprobs of a given text.
    """

    api: Literal["chat", "completions"] = "chat"


class OpenAIProvider:
    """OpenAI's own API; key in OPENAI_API_KEY."""

    Settings: ClassVar[type[BaseModel]] = OpenAISettings
    batches: ClassVar[bool] = True

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> SDKClient:
        """A client of a model such as `gpt-5-mini`.

        Raises:
            MissingKey, TaskError: there is no key, or the address is wrong.
        """
        assert isinstance(settings, OpenAISettings)
        name = f"openai/{model}"
        address = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        where = endpoint(settings, name, address, "OPENAI_API_KEY")
        capabilities = _capabilities(model, settings)
        if settings.api == "completions":
            capabilities = replace(capabilities, top_logprobs=_COMPLETIONS_TOP)
            return compatible_client(name, model, capabilities, where, settings)
        dialect = ChatDialect(model, capabilities, "max_completion_tokens", settings.extra)
        return openai_client(name, dialect, where, settings)


def _capabilities(model: str, settings: OpenAISettings) -> Capabilities:
    if _EMBEDDING.match(model):
        context = settings.context or _EMBEDDING_CONTEXT
        return Capabilities(logprobs=False, temperature=False, context=context, embeddings=True)
    reasoning = _REASONING.match(model) is not None
    return Capabilities(
        logprobs=not reasoning if settings.logprobs is None else settings.logprobs,
        temperature=not reasoning if settings.temperature is None else settings.temperature,
        seed=True,
        context=settings.context,
        tools=True,
        embeddings=False if _WRITING.match(model) else None,
    )


def compatible_client(
    name: str, model: str, capabilities: Capabilities, where: Endpoint, settings: OpenAISettings
) -> SDKClient:
    """A client of a server like OpenAI's, by the API that the settings say."""
    if settings.api == "chat":
        return openai_client(name, ChatDialect(model, capabilities, "max_tokens", settings.extra), where, settings)
    capabilities = replace(capabilities, tools=False, prompt_logprobs=None)
    return openai_client(name, CompletionsDialect(model, capabilities, settings.extra), where, settings)


def openai_client(name: str, dialect: Dialect, where: Endpoint, settings: SDKSettings) -> SDKClient:
    """A client that speaks a dialect through OpenAI's SDK."""
    # only now: the import takes seconds
    import openai

    from harness.clients.providers._transport import Repeating, transport

    # its name is in the user agent
    class AsyncOpenAI(Repeating, openai.AsyncOpenAI): ...

    options = transport(settings.timeout, settings.requests or _CONNECTIONS)
    connection = AsyncOpenAI(api_key=where.key, base_url=where.base_url, **options)
    # of other servers some know lists of numbers alone
    encoding = "base64" if name.startswith("openai/") else None
    embedding = EmbeddingsDialect(dialect.model, dialect.capabilities, settings.extra, encoding)
    client = SDKClient(name, dialect, where, connection, settings, embedding)
    if settings.batch:
        client.batches = OpenAIBatches(client)
    return client
