"""What may stand in the table of a model that is reached through an official SDK."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from harness.clients.prices import Price
from harness.task import Frozen

__all__ = ["SDKSettings"]

# keys of the body that this package decides, or that would change the shape of the reply
_RESERVED = ("echo", "input", "messages", "model", "n", "prompt", "stream", "system")


class SDKSettings(Frozen):
    """The `[model."provider/name"]` table.

    `base_url` is the server's address; `key_variable` the environment variable that holds the key; `requests` how many
    may be under way at once; `timeout` in seconds, between two reads of a reply; `extra` is merged into the body of
    every request and wins over what is there. `logprobs` and `temperature` say whether the model gives the one and
    takes the other where that is not known of it, and `context` how many tokens it takes. `price` is in dollars per
    million tokens; `requests_per_minute` and `tokens_per_minute` are limits to keep where the provider tells of none.
    With `batch` a run's requests go through the provider's batch API, at half the price.
    """

    base_url: str | None = None
    key_variable: str | None = None
    requests: Annotated[int, Field(ge=1)] | None = None
    timeout: Annotated[float, Field(gt=0)] = 600.0
    extra: dict[str, Any] = Field(default_factory=dict)
    logprobs: bool | None = None
    temperature: bool | None = None
    context: Annotated[int, Field(ge=1)] | None = None
    price: Price | None = None
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    batch: bool = False

    @model_validator(mode="before")
    @classmethod
    def _no_key(cls, data: Any) -> Any:
        # a task file is copied into the run directory, where a key would stay for all to read
        if isinstance(data, Mapping) and (found := {"api_key", "key", "token", "auth_token"} & set(data)):
            raise ValueError(f"{min(found)}: a key is never written in a task; set its environment variable instead")
        return data

    @field_validator("extra")
    @classmethod
    def _sendable(cls, extra: dict[str, Any]) -> dict[str, Any]:
        for key in _RESERVED:
            if key in extra:
                raise ValueError(f"{key} cannot be set here")
        try:
            json.dumps(extra, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("holds a value that JSON cannot") from None
        return extra
