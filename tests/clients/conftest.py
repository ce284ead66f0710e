"""What tests of clients share: requests, keys, a clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.clients import Request
from harness.questions.messages import Message
from harness.testing import VirtualClock

OPENAI_KEY = "sk-proj-Zk3v9QxT7bLw2RfYc8HdNs5JgPa1MuEo"
ANTHROPIC_KEY = "sk-ant-api03-Wq6tBz1XnKe4VhRj9SyLd0CpFm7UgAi"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", ANTHROPIC_KEY)


@pytest.fixture
def ask() -> Callable[..., Request]:
    def make(text: str = "hello", **options: object) -> Request:
        return Request((Message("user", text),), **({"max_tokens": 50} | options))  # type: ignore[arg-type] - test data

    return make


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()
