"""`openai-api/<service>/<model>`: any server that speaks OpenAI's chat completions or completions."""

from __future__ import annotations

import os
import re
from typing import ClassVar

from pydantic import BaseModel

from harness.clients.protocol import Capabilities
from harness.clients.providers._endpoint import endpoint
from harness.clients.providers._sdk import SDKClient
from harness.clients.providers.openai import OpenAISettings, compatible_client
from harness.errors import TaskError

__all__ = ["OpenAIAPIProvider", "unknown_capabilities"]


class OpenAIAPIProvider:
    """A compatible server; address in `<SERVICE>_BASE_URL`, key in `<SERVICE>_API_KEY`, hyphens as underscores."""

    Settings: ClassVar[type[BaseModel]] = OpenAISettings

    @classmethod
    def connect(cls, model: str, settings: BaseModel) -> SDKClient:
        """A client of `<service>/<model>`.

        Raises:
            MissingKey, TaskError: there is no key or address, or the name has no service.
        """
        assert isinstance(settings, OpenAISettings)
        name = f"openai-api/{model}"
        service, _, served = model.partition("/")
        if not served or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", service):
            raise TaskError(f'model "{name}": write it as openai-api/<service>/<model>')
        variable = service.upper().replace("-", "_")
        address = os.environ.get(f"{variable}_BASE_URL")
        if not (address or settings.base_url):
            raise TaskError(
                f'model "{name}" needs an address: set the environment variable {variable}_BASE_URL, '
                f'or base_url in [model."{name}"]'
            )
        where = endpoint(settings, name, address, f"{variable}_API_KEY")
        return compatible_client(name, served, unknown_capabilities(settings), where, settings)


def unknown_capabilities(settings: OpenAISettings) -> Capabilities:
    """What a model of any server can do: most of it only asking tells, where the settings do not."""
    return Capabilities(
        logprobs=settings.logprobs,
        temperature=settings.temperature is not False,
        seed=True,
        context=settings.context,
        tools=None,
        embeddings=None,
    )
