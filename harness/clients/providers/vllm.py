"""`vllm/<org>/<model>`: a model that vLLM serves, with the logprobs of given texts by its own extension."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import BaseModel

from harness.clients.protocol import Reply, Request
from harness.clients.providers._chat import ChatDialect, usage_of
from harness.clients.providers._completions import CompletionsDialect, prompt_of, spelled
from harness.clients.providers._dialect import plain
from harness.clients.providers._endpoint import endpoint
from harness.clients.providers._sdk import SDKClient
from harness.clients.providers.openai import OpenAISettings, openai_client
from harness.clients.providers.openai_api import unknown_capabilities
from harness.errors import BadRequest, MissingLogprobs
from harness.questions.messages import Message
from harness.values import TokenLogprob

__all__ = ["VLLMChatDialect", "VLLMCompletionsDialect", "VLLMProvider"]


class VLLMProvider:
    """vLLM's server, on this machine unless VLLM_BASE_URL says otherwise; VLLM_API_KEY where it wants a key.

    With prefix caching some of its versions give wrong logprobs of given texts, depending on what was asked before:
    start it with `--no-enable-prefix-caching` for those.
    """

    Settings: ClassVar[type[BaseModel]] = OpenAISettings

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> SDKClient:
        """A client of a model such as `meta-llama/Llama-3.1-8B-Instruct`.

        Raises:
            MissingKey, TaskError: the key or the address is wrong.
        """
        assert isinstance(settings, OpenAISettings)
        name = f"vllm/{model}"
        address = os.environ.get("VLLM_BASE_URL") or "http://localhost:8000/v1"
        where = endpoint(settings, name, address, "VLLM_API_KEY", required=False)
        known = replace(unknown_capabilities(settings), logprobs=settings.logprobs is not False, prompt_logprobs=True)
        if settings.api == "completions":
            dialect = VLLMCompletionsDialect(model, replace(known, tools=False), settings.extra)
        else:
            dialect = VLLMChatDialect(model, known, "max_tokens", settings.extra)
        return openai_client(name, dialect, where, settings)


@dataclass(frozen=True, slots=True)
class VLLMChatDialect(ChatDialect):
    """Chat completions; a continuation stands as an assistant's last turn that is left open."""

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body.

        Raises:
            MissingLogprobs: logprobs are asked for and the model gives none.
            BadRequest: there is a continuation without any messages.
        """
        if request.continuation is None:
            return ChatDialect.body(self, request)
        if not request.messages:
            raise BadRequest('a text by itself is no chat; completions take it (api = "completions")')
        # one token is generated: some versions refuse none
        fields = {
            "prompt_logprobs": request.top_logprobs or 0,
            "continue_final_message": True,
            "add_generation_prompt": False,
        }
        return ChatDialect.body(self, Request(_open(request), 1)) | fields | dict(self.extra)

    def reply(self, data: Mapping[str, Any], request: Request) -> Reply:
        """The reply in a chat completion.

        Raises:
            MissingLogprobs: it lacks the logprobs that were asked for.
            KeyError, TypeError, ValueError, IndexError, AttributeError: it is no chat completion.
        """
        if request.continuation is None:
            return ChatDialect.reply(self, data, request)
        return _given(data, data.get("prompt_logprobs"), request, 0)


@dataclass(frozen=True, slots=True)
class VLLMCompletionsDialect(CompletionsDialect):
    """Completions, with `prompt_logprobs` in place of an echo."""

    def _scoring(self, request: Request) -> dict[str, Any]:
        return {"max_tokens": 1, "prompt_logprobs": request.top_logprobs or 0}

    def reply(self, data: Mapping[str, Any], request: Request) -> Reply:
        """The reply in a completion.

        Raises:
            MissingLogprobs: it lacks the logprobs that were asked for.
            KeyError, TypeError, ValueError, IndexError, AttributeError: it is no completion.
        """
        if request.continuation is None:
            return CompletionsDialect.reply(self, data, request)
        return _given(data, data["choices"][0].get("prompt_logprobs"), request, len(prompt_of(request)))


def _open(request: Request) -> tuple[Message, ...]:
    """The conversation with the continuation at the end of the assistant's last turn, or as a turn of its own."""
    *before, last = request.messages
    continuation = request.continuation or ""
    if last.role == "assistant":
        return (*before, replace(last, content=last.content + continuation))
    return (*request.messages, Message("assistant", continuation))


def _given(data: Mapping[str, Any], items: Any, request: Request, before: int) -> Reply:
    """The reply to a continuation, before whose text `before` characters of the prompt are known."""
    if not items:
        raise MissingLogprobs("the reply has no logprobs of the given text; is this a server of vLLM?")
    continuation = plain(request.continuation or "")
    text = (prompt_of(request) if before else "") + continuation
    tokens = [None if item is None else _token(item, request.top_logprobs or 0) for item in items]
    return Reply(
        text=request.continuation or "",
        finish="stop",
        usage=usage_of(data.get("usage")),
        logprobs=spelled(tokens, text, before),
        model=data.get("model") or "",
        request_id=data.get("id"),
        fingerprint=data.get("system_fingerprint"),
    )


def _token(item: Mapping[str, Mapping[str, Any]], top: int) -> TokenLogprob:
    """A token of a prompt: the first entry is the token itself, the likeliest ones follow, with or without it."""
    pieces = [(_text(entry), entry["logprob"]) for entry in item.values()]
    ranked: Sequence[tuple[str, float]] = sorted(pieces, key=lambda pair: -pair[1])[:top]
    text, logprob = pieces[0]
    return TokenLogprob(text, logprob, tuple(ranked))


def _text(entry: Mapping[str, Any]) -> str:
    return entry.get("decoded_token") or ""
