from __future__ import annotations

from typing import Any

import pytest

from harness.clients import Limits, MemoryKeeper, Request, assemble, connect
from harness.errors import ContextTooLong
from harness.questions.messages import Message
from harness.testing import FakeProvider
from harness.testing.rate import Rate

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("FAKE_API_KEY", "none")
    return {"context": 1000, "logprobs": False}


async def test_a_prompt_that_cannot_fit_is_refused_before_it_is_sent(settings: dict[str, Any]) -> None:
    async with FakeProvider() as provider:
        client = connect("openai-api/fake/m", settings | {"base_url": provider.openai_url})
        with pytest.raises(ContextTooLong, match=r"take 1,6.. tokens or more, and the context has 1,000"):
            await client.generate(Request((Message("user", "word " * 1900),), 50))
        with pytest.raises(ContextTooLong):
            await client.generate(Request((Message("user", "word"),), 990))
        assert provider.requests == []
        await client.generate(Request((Message("user", "word " * 700),), 50))
        await client.aclose()
    assert len(provider.requests) == 1


async def test_limits_that_replies_tell_of_reach_the_gate(settings: dict[str, Any]) -> None:
    limits = Limits(8)
    async with FakeProvider(rate=Rate(50.0, 5.0, headers=True)) as provider:
        bare = connect("openai-api/fake/m", settings | {"base_url": provider.openai_url})
        client = assemble(bare, MemoryKeeper(), limits=limits)
        heard: list[dict[str, str]] = []
        told = bare.heard  # type: ignore[attr-defined] - what the limit layer set
        bare.heard = lambda headers: (heard.append(dict(headers)), told(headers))  # type: ignore[attr-defined]
        for number in range(3):
            await client.generate(Request((Message("user", f"word {number}"),), 5))
        await client.aclose()
    assert len(heard) == 3
    assert any("ratelimit" in name for name in heard[0])
