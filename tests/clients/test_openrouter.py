"""OpenRouter: who may answer, who did, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.clients import Capabilities, Request, connect
from harness.clients.providers.openrouter import OpenRouterDialect
from harness.errors import MissingKey, TaskError
from harness.testing import FakeProvider

pytestmark = pytest.mark.anyio

Ask = Callable[..., Request]


def dialect(**extra: Any) -> OpenRouterDialect:
    return OpenRouterDialect("vendor/m", Capabilities(logprobs=None), "max_tokens", extra)


def completion(**more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}], **more}


def test_asked_for_logprobs_only_providers_that_give_them_may_answer(ask: Ask) -> None:
    assert dialect().body(ask(top_logprobs=5))["provider"] == {"require_parameters": True}
    assert "provider" not in dialect().body(ask())


def test_the_users_choice_of_providers_is_kept_and_wins(ask: Ask) -> None:
    mine = dialect(provider={"order": ["x"]}, usage={"more": 1})
    assert mine.body(ask(top_logprobs=5))["provider"] == {"require_parameters": True, "order": ["x"]}
    assert mine.body(ask())["provider"] == {"order": ["x"]}
    assert mine.body(ask())["usage"] == {"include": True, "more": 1}
    other = dialect(provider={"require_parameters": False})
    assert other.body(ask(top_logprobs=5))["provider"] == {"require_parameters": False}


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.25}, 0.25),
        ({"cost": 0}, 0.0),
        ({}, None),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, 0.21),
        ({"cost": 0.3, "cost_details": {"upstream_inference_cost": 0.2}}, 0.3),
        ({"cost": 0.3, "is_byok": True, "cost_details": None}, 0.3),
    ],
)
def test_the_reply_says_what_it_cost(ask: Ask, usage: dict[str, Any], cost: float | None) -> None:
    found = dialect().reply(completion(usage={"prompt_tokens": 3, **usage}), ask()).usage
    assert found.cost == (None if cost is None else pytest.approx(cost))
    assert found.input == 3


@pytest.mark.parametrize(
    ("data", "fingerprint"),
    [
        ({"provider": "Together", "system_fingerprint": "fp_1"}, "Together/fp_1"),
        ({"provider": "Together"}, "Together"),
        ({"system_fingerprint": "fp_1"}, "fp_1"),
        ({}, None),
    ],
)
def test_the_reply_says_who_answered(ask: Ask, data: dict[str, Any], fingerprint: str | None) -> None:
    assert dialect().reply(completion(**data), ask()).fingerprint == fingerprint


def test_a_failure_of_the_provider_behind_it_is_no_reply(ask: Ask) -> None:
    with pytest.raises(ValueError, match="behind OpenRouter failed"):
        dialect().reply({"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}, ask())


async def test_a_request_is_answered_with_its_cost(monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    with pytest.raises(MissingKey, match="OPENROUTER_API_KEY"):
        connect("openrouter/meta-llama/llama-3.3-70b-instruct")
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-0123456789")
    with pytest.raises(TaskError, match="openrouter/<vendor>/<model>"):
        connect("openrouter/llama")
    async with FakeProvider(lambda messages, body: "ok") as provider:
        client = connect("openrouter/meta-llama/llama-3.3-70b-instruct", {"base_url": provider.openai_url})
        reply = await client.generate(ask(top_logprobs=2))
        assert (reply.text, reply.fingerprint) == ("ok", "Fake/fp_fake")
        assert reply.usage.cost
        assert reply.logprobs
        assert provider.requests[0].body["model"] == "meta-llama/llama-3.3-70b-instruct"
        await client.aclose()
