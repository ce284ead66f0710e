"""What tests of judges share: the backend, and a server for the service `fake` and Anthropic's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Lets the service `fake`, OpenAI's and Anthropic's be a fake provider."""

    def point(provider: Any) -> None:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        monkeypatch.setenv("OPENAI_BASE_URL", provider.openai_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)

    return point
