"""The models of a task: each connected once, with its layers around it, and shared by all who ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.clients import connect
from harness.clients.prices import Price, price_of
from harness.clients.protocol import Capabilities, Client, Counting, Embedder, Learner, Remote, Request
from harness.errors import TaskError

__all__ = ["Models"]

# settings that change how a model is reached and not what it answers
_REACHING = (
    "batch", "batch_tokens", "cache", "device", "key_variable", "price", "requests", "requests_per_minute", "threads",
    "timeout", "tokens_per_minute",
)  # fmt: skip


class Models:
    """Clients by name; `settings` are the task's `[model."name"]` tables, `wrap` puts layers around a client."""

    def __init__(self, settings: Mapping[str, Mapping[str, Any]], wrap: Callable[[Client], Client]) -> None:
        self._settings = settings
        self._wrap = wrap
        self._bare: dict[str, Client] = {}
        self._clients: dict[str, Client] = {}

    def client(self, name: str) -> Client:
        """The client of a model such as `openai/gpt-5-mini`.

        Raises:
            UserError: the provider is not known, lacks a package or key, or its settings are wrong.
        """
        if name not in self._clients:
            self._bare[name] = connect(name, self._settings.get(name))
            self._clients[name] = self._wrap(self._bare[name])
        return self._clients[name]

    def embedder(self, name: str) -> Embedder:
        """The model as an embedder; nothing it does is kept or paid for.

        Raises:
            UserError: as `client`, or it is no embedder.
        """
        self.client(name)
        bare = self._bare[name]
        if not isinstance(bare, Embedder) or not bare.capabilities.embeddings:
            raise TaskError(f"{name} is no embedder: name one such as local/path/of/a/sentence-transformers/model")
        return bare

    def count(self, name: str, request: Request) -> int | None:
        """How many tokens a request's prompt has for the model, None where its tokenizer is not at hand."""
        self.client(name)
        bare = self._bare[name]
        return bare.count(request) if isinstance(bare, Counting) else None

    def names(self) -> list[str]:
        """The names of those in use."""
        return sorted(self._clients)

    def accounts(self) -> list[str]:
        """The accounts that those in use ask; see `Remote`."""
        return sorted({client.account for client in self._bare.values() if isinstance(client, Remote)})

    def price(self, name: str) -> Price | None:
        """The price of a model, None where it is not known.

        Raises:
            TaskError: a price is wrong.
        """
        return price_of(name, self._settings.get(name))

    def learn(self, name: str, capabilities: Capabilities) -> None:
        """What asking told of a model, from now on held for known."""
        bare = self._bare[name]
        if isinstance(bare, Learner):
            bare.learn(capabilities)

    def identity(self, name: str) -> list[Any]:
        """A JSON-able value of what decides a model's answers: its name, and its settings but for how it is reached."""
        settings = self._settings.get(name) or {}
        kept = {key: value for key, value in settings.items() if key not in _REACHING}
        return [name, kept, self.client(name).capabilities.revision]

    def model_free(self) -> list[str]:
        """The names of those in use that answer without a language model."""
        return sorted(name for name, client in self._clients.items() if client.capabilities.model_free)

    async def aclose(self) -> None:
        """Close every client."""
        for client in self._clients.values():
            await client.aclose()
