"""`inspect/<model>`: any model that inspect_ai reaches, such as `inspect/bedrock/...`, where it is installed.

Its retries, limits and cache are off, and its providers' SDKs' retries too: those of this package hold.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx2
from pydantic import BaseModel

from harness.clients.protocol import Capabilities, FinishReason, Reply, Request
from harness.clients.providers._dialect import plain
from harness.clients.providers._errors import Translator
from harness.clients.providers._settings import SDKSettings
from harness.clients.redact import Redactor, guard_logs, release_logs
from harness.clients.wire import Wire
from harness.errors import (
    BadRequest,
    ClientError,
    ContextTooLong,
    MissingDependency,
    MissingLogprobs,
    Refused,
    TaskError,
)
from harness.values import TokenLogprob, Usage, digest

__all__ = ["InspectClient", "InspectProvider"]

_FINISH: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "refusal",
    "tool_calls": "calls",
}
_CONNECTIONS = 1000


class InspectProvider:
    """Models of inspect_ai, which takes keys and addresses from the variables that it documents.

    `extra` holds fields of its `GenerateConfig`, `base_url` and `key_variable` are handed on to it.
    """

    Settings: ClassVar[type[BaseModel]] = SDKSettings

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> InspectClient:
        """A client of a model such as `bedrock/meta.llama3-1-70b-instruct-v1:0`.

        Raises:
            MissingDependency: inspect_ai, or the package of the model's provider, is not installed.
            TaskError: inspect_ai does not take the model or the settings.
        """
        assert isinstance(settings, SDKSettings)
        try:
            inspect_ai = importlib.import_module("inspect_ai.model")
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f'provider "inspect" needs the package "inspect-ai" ({error}): pip install "latent-harness[inspect]"'
            ) from error
        return InspectClient(model, settings, inspect_ai)


class InspectClient:
    """Asks one model through inspect_ai; `inspect_ai` is its module `inspect_ai.model`.

    Raises:
        TaskError: inspect_ai does not take the model or the settings.
    """

    def __init__(self, model: str, settings: SDKSettings, inspect_ai: Any) -> None:
        self.name = f"inspect/{model}"
        self.model = model
        self.requests = settings.requests
        self.capabilities = Capabilities(
            logprobs=settings.logprobs,
            temperature=settings.temperature is not False,
            seed=True,
            context=settings.context,
        )
        if unknown := sorted(set(settings.extra) - set(inspect_ai.GenerateConfig.model_fields)):
            raise TaskError(f'[model."{self.name}"]: extra: {unknown[0]} is no field of inspect_ai\'s GenerateConfig')
        vendor = model.partition("/")[0]
        key = os.environ.get(settings.key_variable or f"{vendor.upper().replace('-', '_')}_API_KEY", "").strip()
        self.account = digest(["inspect", vendor, settings.base_url, key])[:16]
        self._inspect = inspect_ai
        self._settings = settings
        self._redactor = Redactor(key)
        self._translator = Translator(self.name, settings.base_url or f"inspect_ai ({vendor})", self._redactor)
        self._model = self._connected(key if settings.key_variable else None)
        self._guard = guard_logs(self._redactor)

    def wire(self, request: Request) -> Wire:
        """The settings and the conversation that inspect_ai is given."""
        messages = [[m.role, plain(m.content)] for m in request.messages]
        body = {"model": self.model, "messages": messages, "config": self._config(request)}
        return Wire.of(body, url=self._settings.base_url or "inspect", path=self.model)

    async def generate(self, request: Request) -> Reply:
        """Ask once.

        Raises:
            ClientError: no reply.
        """
        outcome = await self._send(request)
        # raised here and not where inspect_ai's was caught: as its context that one would keep the key
        if isinstance(outcome, ClientError):
            raise outcome
        return self._redactor.reply(outcome)

    async def aclose(self) -> None:
        """Close connections."""
        await self._model.api.aclose()
        release_logs(self._guard)

    def _connected(self, key: str | None) -> Any:
        connections = self.requests or _CONNECTIONS
        config = self._inspect.GenerateConfig(max_connections=connections, adaptive_connections=False)
        try:
            model = self._inspect.get_model(
                self.model, config=config, base_url=self._settings.base_url, api_key=key, memoize=False
            )
        except Exception as error:  # of many kinds, and their messages may hold the key
            told = " ".join(self._redactor.clean(str(error)).split())
            raise TaskError(f'model "{self.name}": inspect_ai says: {told}') from None
        sdk: Any = getattr(model.api, "client", None)
        if hasattr(sdk, "max_retries"):
            sdk.max_retries = 0
        return model

    def _config(self, request: Request) -> dict[str, Any]:
        unavailable = request.top_logprobs is not None and self.capabilities.logprobs is False
        if request.continuation is not None or unavailable:
            raise MissingLogprobs("this model gives no such logprobs", model=self.name)
        if request.tools or any(message.role == "tool" or message.calls for message in request.messages):
            raise BadRequest("tools are not handed on to inspect_ai", model=self.name)
        config: dict[str, Any] = {"max_tokens": request.max_tokens}
        if request.temperature is not None and self.capabilities.temperature:
            config["temperature"] = request.temperature
        if request.top_logprobs is not None:
            config |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.seed is not None:
            config["seed"] = request.seed
        if request.stop:
            config["stop_seqs"] = list(request.stop)
        return config | self._settings.extra

    async def _send(self, request: Request) -> Reply | ClientError:
        roles = {
            "system": self._inspect.ChatMessageSystem,
            "user": self._inspect.ChatMessageUser,
            "assistant": self._inspect.ChatMessageAssistant,
        }
        config = self._inspect.GenerateConfig(
            **self._config(request), max_retries=0, attempt_timeout=round(self._settings.timeout)
        )
        messages = [roles[message.role](content=plain(message.content)) for message in request.messages]
        try:
            output = await self._model.generate(messages, config=config, cache=False)
        except Exception as error:  # whatever it is may hold the key, so none passes as it is
            return self._raised(error)
        return self._read(output, request)

    def _raised(self, error: Exception) -> ClientError:
        for link in _chain(error):
            if isinstance(getattr(link, "response", None), httpx2.Response):
                return self._translator.raised(link)
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            told = getattr(error, "provider_message", None) or str(error)
            return self._translator.answered(httpx2.Response(status, text=told))
        return self._translator.raised(error)

    def _read(self, output: Any, request: Request) -> Reply | ClientError:
        reason, text = output.stop_reason, output.completion
        if output.usage is None and reason in ("model_length", "content_filter"):
            # some refusals of a provider come as if they were replies
            kind = ContextTooLong if reason == "model_length" else Refused
            return kind(self._redactor.clean(output.error or text), model=self.name)
        logprobs = None
        if request.top_logprobs is not None:
            found = output.choices[0].logprobs
            if text and (found is None or not found.content):
                return MissingLogprobs(
                    "the reply has no logprobs though they were asked for; if this model gives none, set "
                    f'logprobs = false in [model."{self.name}"]',
                    model=self.name,
                )
            logprobs = () if found is None else tuple(_token(item) for item in found.content)
        return Reply(
            text=text,
            finish=_FINISH.get(reason, "stop"),
            usage=_usage(output.usage),
            logprobs=logprobs,
            model=output.model,
            request_id=output.response_id,
        )


def _chain(error: BaseException) -> Iterator[Exception]:
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, Exception):
            yield link
        link = link.__cause__ or link.__context__


def _usage(usage: Any) -> Usage:
    if usage is None:
        return Usage(requests=1)
    return Usage(
        input=usage.input_tokens,
        cache_read=usage.input_tokens_cache_read or 0,
        cache_write=usage.input_tokens_cache_write or 0,
        output=usage.output_tokens,
        reasoning=usage.reasoning_tokens or 0,
        requests=1,
        cost=usage.total_cost,
    )


def _token(item: Any) -> TokenLogprob:
    return TokenLogprob(_piece(item), item.logprob, tuple((_piece(o), o.logprob) for o in item.top_logprobs or ()))


def _piece(item: Any) -> str:
    """A token's text; one that holds a part of a character only is told by its bytes."""
    if item.bytes and (not item.token.isascii() or "\\x" in item.token):
        return bytes(item.bytes).decode("utf-8", "surrogateescape")
    return item.token
