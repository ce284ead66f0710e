"""For tests of tasks and clients: a client that answers from a list, and a provider's server with faults on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.testing.answers import Answer, by_hash, by_keywords, lognormal
from harness.testing.batches import BatchFault
from harness.testing.bill import Bill, Price
from harness.testing.clock import VirtualClock
from harness.testing.faults import Fault, Received, storm
from harness.testing.mock import MockClient
from harness.testing.rate import Rate
from harness.testing.tokens import Tokens

if TYPE_CHECKING:
    from harness.testing.process import ProviderProcess, read_log
    from harness.testing.server import FakeProvider

__all__ = [
    "Answer",
    "BatchFault",
    "Bill",
    "FakeProvider",
    "Fault",
    "MockClient",
    "Price",
    "ProviderProcess",
    "Rate",
    "Received",
    "Tokens",
    "VirtualClock",
    "by_hash",
    "by_keywords",
    "lognormal",
    "read_log",
    "storm",
]

# the server brings aiohttp with it, which a mock client does not need
_LAZY = {"FakeProvider": "server", "ProviderProcess": "process", "read_log": "process"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
