"""Models by name, with the layers around them: kept replies, retries, limits, and a file for each provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from harness import registry
from harness.clients.budget import Budget, RunBudget
from harness.clients.draining import Draining, pausing
from harness.clients.ledger import Amount, Ledger
from harness.clients.limit import Limit, Limits
from harness.clients.metering import Metering
from harness.clients.prices import Price, price_of
from harness.clients.protocol import Capabilities, Client, Provider, Remote, Reply, Request
from harness.clients.replies import Keeper, MemoryKeeper, RecentKeeper, Replies, request_key
from harness.clients.retry import Retry, RetryPolicy
from harness.errors import TaskError, UnknownKind
from harness.validation import validated

__all__ = [
    "Amount",
    "Books",
    "Budget",
    "Capabilities",
    "Client",
    "Keeper",
    "Ledger",
    "Limits",
    "MemoryKeeper",
    "Price",
    "Provider",
    "Remote",
    "Replies",
    "Reply",
    "Request",
    "RetryPolicy",
    "RunBudget",
    "assemble",
    "connect",
    "offers_batches",
    "price_of",
    "request_key",
]


def connect(name: str, settings: Mapping[str, Any] | None = None) -> Client:
    """The client of a model such as `openai/gpt-5-mini`, bare: without the layers that `assemble` puts around it.

    The name is split at the first slash into the provider and the provider's own name of the model; `settings` is the
    task's `[model."name"]` table. Nothing is sent.

    Raises:
        UnknownKind: there is no such provider, or the name has no slash.
        MissingDependency, MissingKey: the provider cannot be used here.
        TaskError: the settings are wrong, or ask for a batch API that is not there; the message names table and key.
    """
    kind, slash, model = name.partition("/")
    if not slash or not kind or not model:
        raise UnknownKind(f'model "{name}": write it as provider/model; providers: {_known()}')
    try:
        provider: type[Provider] = registry.load("providers", kind)
    except UnknownKind as error:
        raise UnknownKind(f'model "{name}": {error}') from error
    # of a local model `batch` is a number of rows
    if (settings or {}).get("batch") is True and not offers_batches(name):
        raise TaskError(f'[model."{name}"]: batch: {kind}/ has no batch API: openai/ and anthropic/ have one')
    return provider.connect(model, validated(provider.Settings, dict(settings or {}), f'[model."{name}"]'))


def offers_batches(name: str) -> bool:
    """Whether a model's provider has a batch API.

    Raises:
        UnknownKind: there is no such provider.
    """
    return bool(getattr(registry.load("providers", name.partition("/")[0]), "batches", False))


def assemble(
    client: Client,
    keeper: Books,
    *,
    limits: Limits | None = None,
    budget: Budget | None = None,
    price: Price | None = None,
    policy: RetryPolicy | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Client:
    """A client with its layers: replies, then retry, then limit, then metering, then the provider.

    A remembered reply takes no slot and no money, and a slot is free during a back-off. Share one `limits` and one
    `budget` among all clients of a run, so that those of one account wait for one another. Clients that send nothing
    anywhere get no retries, and model-free ones no keeping either: what they say is free and always the same. Of those
    whose replies are not `kept` the latest are shared in memory. Once `stopping()` is true nothing more is sent.
    """
    sending: Client = Draining(client, stopping)
    if client.capabilities.model_free:
        return sending
    sending = Metering(sending, keeper, budget or RunBudget(), price)
    if isinstance(client, Remote):
        limits = limits or Limits()
        rates = [getattr(client, name, None) for name in ("requests_per_minute", "tokens_per_minute")]
        gate = limits.gate(client.account, client.model, client.requests, *rates)
        sending = Retry(Limit(sending, gate, limits.breaker(client.account), stopping), policy, sleep=pausing(stopping))
    return Replies(sending, keeper if client.capabilities.kept else RecentKeeper())


class Books(Keeper, Ledger, Protocol):
    """Where replies are kept and attempts written down: a run's journal, or memory."""


def _known() -> str:
    return ", ".join(registry.names("providers"))
