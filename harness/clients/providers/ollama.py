"""`ollama/<model>`: a model that Ollama serves."""

from __future__ import annotations

import os
from typing import ClassVar

from pydantic import BaseModel

from harness.clients.providers._endpoint import endpoint
from harness.clients.providers._sdk import SDKClient
from harness.clients.providers.openai import OpenAISettings, compatible_client
from harness.clients.providers.openai_api import unknown_capabilities

__all__ = ["OllamaProvider"]


class OllamaProvider:
    """Ollama, on this machine unless OLLAMA_BASE_URL says otherwise; without a key unless OLLAMA_API_KEY holds one.

    It cuts a prompt that is longer than its `num_ctx` without telling.
    """

    Settings: ClassVar[type[BaseModel]] = OpenAISettings

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> SDKClient:
        """A client of a model such as `gemma3:4b`.

        Raises:
            MissingKey, TaskError: the key or the address is wrong.
        """
        assert isinstance(settings, OpenAISettings)
        name = f"ollama/{model}"
        address = os.environ.get("OLLAMA_BASE_URL") or "http://localhost:11434/v1"
        where = endpoint(settings, name, address, "OLLAMA_API_KEY", required=False)
        return compatible_client(name, model, unknown_capabilities(settings), where, settings)
