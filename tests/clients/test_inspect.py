"""inspect_ai's models as ours: its replies and errors, with its own retries and limits off."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from harness.clients import Limits, MemoryKeeper, Remote, Request, RetryPolicy, assemble, connect
from harness.errors import (
    AuthenticationFailed,
    BadRequest,
    ClientError,
    ContextTooLong,
    MissingDependency,
    MissingLogprobs,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    TaskError,
)
from harness.questions.messages import Message, Tool
from harness.testing import FakeProvider, Fault

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("keys")]

Ask = Callable[..., Request]
INSTALLED = find_spec("inspect_ai") is not None
foreign = [
    pytest.mark.foreign,
    pytest.mark.skipif(not INSTALLED, reason="inspect_ai is not installed"),
    # what it uses of its own dependencies is its own affair
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.skipif(INSTALLED, reason="inspect_ai is installed")
def test_without_inspect_the_package_is_named() -> None:
    with pytest.raises(MissingDependency, match=r'pip install "latent-harness\[inspect\]"'):
        connect("inspect/openai/gpt-4.1")


class TestWithInspect:
    pytestmark = foreign

    async def test_its_mock_model_answers(self, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        # it counts this model's tokens by a vocabulary that it would fetch
        monkeypatch.setattr("tiktoken.get_encoding", lambda name: SimpleNamespace(encode=lambda text, **_: list(text)))
        client = connect("inspect/mockllm/model")
        assert isinstance(client, Remote)
        reply = await client.generate(ask())
        assert (reply.text, reply.finish, reply.usage.requests) == ("Default output from mockllm/model", "stop", 1)
        with pytest.raises(MissingLogprobs, match="set logprobs = false"):
            await client.generate(ask(top_logprobs=3))
        await client.aclose()

    def test_what_it_does_not_take_is_told(self) -> None:
        with pytest.raises(TaskError, match=r'model "inspect/nobody/m": inspect_ai says: .*nobody'):
            connect("inspect/nobody/m")
        with pytest.raises(TaskError, match="extra: reasoning is no field of inspect_ai's GenerateConfig"):
            connect("inspect/mockllm/model", {"extra": {"reasoning": "low"}})

    async def test_what_it_is_not_handed_is_refused(self, ask: Ask) -> None:
        client = connect("inspect/mockllm/model")
        with pytest.raises(BadRequest, match="tools"):
            client.wire(ask(tools=(Tool("f", "", {}),)))
        with pytest.raises(MissingLogprobs):
            client.wire(ask(continuation="x"))
        await client.aclose()

    async def test_its_providers_reply_as_ours_do(self, ask: Ask) -> None:
        turns = (Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
        request = Request(turns, 50, 0.5, top_logprobs=3, seed=4, stop=("END",))
        async with FakeProvider(lambda messages, body: "[1, 0]") as provider:
            settings = {"base_url": provider.openai_url, "extra": {"frequency_penalty": 0.25}}
            ours, theirs = connect("openai/gpt-4.1", settings), connect("inspect/openai/gpt-4.1", settings)
            mine, reply = await ours.generate(request), await theirs.generate(request)
            sent = provider.requests[1].body
            assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "user"]
            assert (sent["temperature"], sent["seed"], sent["stop"], sent["top_logprobs"]) == (0.5, 4, ["END"], 3)
            assert sent["frequency_penalty"] == 0.25
            assert (reply.text, reply.finish, reply.model) == (mine.text, mine.finish, mine.model)
            assert (reply.usage.input, reply.usage.output) == (mine.usage.input, mine.usage.output)
            assert reply.logprobs is not None
            assert mine.logprobs is not None
            assert [item.token for item in reply.logprobs] == [item.token for item in mine.logprobs]
            assert [len(item.top) for item in reply.logprobs] == [len(item.top) for item in mine.logprobs]
            for client in (ours, theirs):
                await client.aclose()

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            ("rate_limit", RateLimited),
            ("server_error", Overloaded),
            ("unauthorized", AuthenticationFailed),
            ("quota", QuotaExhausted),
            ("context", ContextTooLong),
            ("bad_request", BadRequest),
        ],
    )
    async def test_each_error_is_one_of_ours_and_nothing_is_sent_twice(
        self, fault: Any, kind: type[ClientError], ask: Ask
    ) -> None:
        async with FakeProvider(lambda messages, body: "ok") as provider:
            client = connect("inspect/openai/gpt-4.1", {"base_url": provider.openai_url})
            provider.fail(Fault(fault, "7"))
            with pytest.raises(kind) as caught:
                await client.generate(ask())
            assert type(caught.value) is kind
            assert len(provider.requests) == 1
            if isinstance(caught.value, RateLimited):
                assert caught.value.retry_after == 7
            await client.aclose()

    async def test_a_key_in_an_error_is_taken_out(self, ask: Ask) -> None:
        async with FakeProvider(lambda messages, body: "ok") as provider:
            client = connect("inspect/openai/gpt-4.1", {"base_url": provider.openai_url})
            provider.fail("echo_key_error")
            with pytest.raises(AuthenticationFailed) as caught:
                await client.generate(ask())
            assert provider.requests[0].key.startswith("sk-")
            assert provider.requests[0].key not in str(caught.value)
            assert caught.value.__cause__ is caught.value.__context__ is None
            await client.aclose()

    async def test_our_layers_limit_and_retry_it(self, ask: Ask) -> None:
        async with FakeProvider(lambda messages, body: messages[-1]["content"], delay=0.01) as provider:
            client = connect("inspect/openai/gpt-4.1", {"base_url": provider.openai_url})
            policy = RetryPolicy(attempts=4, first=0.002, longest=0.01)
            layered = assemble(client, MemoryKeeper(), limits=Limits(8), policy=policy)
            provider.fail("server_error", "reset")
            texts: list[str] = []

            async def one(number: int) -> None:
                texts.append((await layered.generate(ask(f"{number}"))).text)

            async with anyio.create_task_group() as group:
                for number in range(24):
                    group.start_soon(one, number)
            assert sorted(texts, key=int) == [str(number) for number in range(24)]
            assert len(provider.requests) == 26
            assert provider.peak <= 8
            await layered.aclose()
