from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from harness.clients import Remote, Request, connect
from harness.errors import MissingKey, MissingLogprobs, TaskError, UnknownKind
from harness.questions.messages import Message

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", ["gpt-5", "openai/", "/gpt-5", ""])
def test_a_name_without_provider_or_model_is_refused_with_the_providers(name: str) -> None:
    with pytest.raises(UnknownKind, match=r"provider/model; providers: anthropic, "):
        connect(name)


def test_an_unknown_provider_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownKind, match=r'model "opnai/gpt-5": .*did you mean "openai"'):
        connect("opnai/gpt-5")


def test_an_unknown_setting_is_named_with_its_table_and_the_nearest() -> None:
    with pytest.raises(TaskError, match=r'\[model."openai/gpt-5"\]: timeot: unknown key; did you mean timeout'):
        connect("openai/gpt-5", {"timeot": 3})


@pytest.mark.parametrize("key", ["api_key", "key", "token"])
def test_a_key_in_the_settings_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(TaskError, match="never written in a task") as caught:
        connect("openai/gpt-5", {key: "sk-secret-0123456789"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "variable"),
    [("openai/gpt-5", "OPENAI_API_KEY"), ("anthropic/claude-sonnet-5", "ANTHROPIC_API_KEY")],
)
def test_a_missing_key_names_its_environment_variable(name: str, variable: str) -> None:
    with pytest.raises(MissingKey, match=variable):
        connect(name)


def test_a_key_with_a_line_break_inside_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-first\nsk-second")
    with pytest.raises(MissingKey) as caught:
        connect("openai/gpt-5")
    assert "sk-" not in str(caught.value)


def test_a_service_names_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match="TOGETHER_AI_BASE_URL"):
        connect("openai-api/together-ai/meta/llama")
    monkeypatch.setenv("TOGETHER_AI_BASE_URL", "https://example.org/v1")
    with pytest.raises(MissingKey, match="TOGETHER_AI_API_KEY"):
        connect("openai-api/together-ai/meta/llama")


async def test_only_the_first_slashes_part_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_AI_BASE_URL", "https://example.org/v1/")
    monkeypatch.setenv("TOGETHER_AI_API_KEY", "tgp-0123456789")
    client = connect("openai-api/together-ai/meta/llama")
    wire = client.wire(Request((Message("user", "hi"),), 5))
    assert wire.data() == {
        "url": "https://example.org/v1",
        "path": "/chat/completions",
        "body": {"model": "meta/llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
    }
    await client.aclose()


def test_a_service_without_a_model_is_refused() -> None:
    with pytest.raises(TaskError, match="openai-api/<service>/<model>"):
        connect("openai-api/together")


async def test_a_server_on_this_machine_needs_no_key() -> None:
    client = connect("openai-api/mine/tiny", {"base_url": "http://127.0.0.1:9/v1"})
    assert isinstance(client, Remote)
    await client.aclose()


@pytest.mark.parametrize(
    ("name", "variable", "address", "model"),
    [
        ("vllm/org/m", "VLLM", "http://localhost:8000/v1", "org/m"),
        ("ollama/gemma3:4b", "OLLAMA", "http://localhost:11434/v1", "gemma3:4b"),
    ],
)
async def test_servers_of_ones_own_have_an_address_and_need_no_key(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Request], name: str, variable: str, address: str, model: str
) -> None:
    client = connect(name)
    assert client.wire(ask()).url == address
    assert client.wire(ask()).data()["body"]["model"] == model
    await client.aclose()
    monkeypatch.setenv(f"{variable}_BASE_URL", "https://gpu7.example.org/v1")
    client = connect(name)
    assert client.wire(ask()).url == "https://gpu7.example.org/v1"
    await client.aclose()
    with pytest.raises(MissingKey, match="GPU_KEY"):
        connect(name, {"key_variable": "GPU_KEY"})


@pytest.mark.parametrize(
    ("name", "api", "logprobs", "prompt_logprobs", "tools"),
    [
        ("openai/gpt-4.1", "chat", True, False, True),
        ("openai/davinci-002", "completions", True, None, False),
        ("openai-api/mine/m", "chat", None, False, None),
        ("openai-api/mine/m", "completions", None, None, False),
        ("ollama/m", "chat", None, False, None),
        ("vllm/org/m", "chat", True, True, None),
        ("vllm/org/m", "completions", True, True, False),
    ],
)
async def test_what_is_known_of_a_model_before_asking(
    keys: None, name: str, api: str, logprobs: bool | None, prompt_logprobs: bool | None, tools: bool | None
) -> None:
    client = connect(name, {"api": api, "base_url": "http://127.0.0.1:9/v1"})
    known = client.capabilities
    assert (known.logprobs, known.prompt_logprobs, known.tools) == (logprobs, prompt_logprobs, tools)
    assert client.wire(Request((Message("user", "x"),), 5)).path == f"/{api}".replace("/chat", "/chat/completions")
    await client.aclose()


@pytest.mark.parametrize(
    "url", ["example.org/v1", "ftp://example.org", "https://user:pass@example.org/v1", "https://example.org/v1?key=1"]
)
def test_an_address_that_is_none_or_holds_secrets_is_refused(keys: None, url: str) -> None:
    with pytest.raises(TaskError, match="base_url") as caught:
        connect("openai/gpt-5", {"base_url": url})
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    "extra", [{"stream": True}, {"n": 2}, {"echo": True}, {"messages": []}, {"stop": float("nan")}]
)
def test_extra_keys_that_would_break_a_reply_are_refused(extra: dict[str, object]) -> None:
    with pytest.raises(TaskError, match="extra"):
        connect("openai/gpt-5", {"extra": extra})


async def test_extra_keys_are_merged_and_win(keys: None, ask: Callable[..., Request]) -> None:
    settings = {"extra": {"reasoning_effort": "low", "max_completion_tokens": 4000}}
    client = connect("openai/gpt-5", settings)
    body = client.wire(ask(max_tokens=50)).data()["body"]
    assert body["reasoning_effort"] == "low"
    assert body["max_completion_tokens"] == 4000
    await client.aclose()


async def test_accounts_differ_by_key_and_address_and_tell_neither(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Request]
) -> None:
    accounts = set()
    for key, url in [
        ("sk-one-12345678", "https://a/v1"),
        ("sk-two-12345678", "https://a/v1"),
        ("sk-one-12345678", "https://b/v1"),
    ]:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        client = connect("openai/gpt-4.1", {"base_url": url})
        assert isinstance(client, Remote)
        accounts.add(client.account)
        assert "sk-" not in client.account + client.wire(ask()).json().decode()
        await client.aclose()
    assert len(accounts) == 3


async def test_a_key_may_come_from_another_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingKey, match="MY_OTHER_KEY"):
        connect("openai/gpt-4.1", {"key_variable": "MY_OTHER_KEY"})
    monkeypatch.setenv("MY_OTHER_KEY", "sk-other-12345678")
    await connect("openai/gpt-4.1", {"key_variable": "MY_OTHER_KEY"}).aclose()


@pytest.mark.parametrize(
    ("name", "logprobs", "temperature"),
    [
        ("openai/gpt-4.1-mini", True, True),
        ("openai/gpt-4o", True, True),
        ("openai/gpt-5-mini", False, False),
        ("openai/o3", False, False),
        ("openai/gpt-5-chat-latest", True, True),
        ("anthropic/claude-sonnet-5", False, False),
        ("anthropic/claude-opus-4-8", False, False),
        ("anthropic/claude-opus-4-6", False, True),
        ("anthropic/claude-haiku-4-5-20251001", False, True),
        ("anthropic/claude-sonnet-4-20250514", False, True),
        ("anthropic/claude-3-haiku-20240307", False, True),
    ],
)
async def test_what_families_of_models_can_do(keys: None, name: str, logprobs: bool, temperature: bool) -> None:
    client = connect(name)
    assert (client.capabilities.logprobs, client.capabilities.temperature) == (logprobs, temperature)
    await client.aclose()


async def test_settings_overrule_what_is_known_of_a_family(keys: None, ask: Callable[..., Request]) -> None:
    client = connect("openai/gpt-5", {"logprobs": True, "temperature": True, "context": 1000})
    assert client.capabilities.logprobs
    assert client.capabilities.context == 1000
    assert client.wire(ask(temperature=0.5)).data()["body"]["temperature"] == 0.5
    await client.aclose()


async def test_logprobs_of_a_model_that_gives_none_are_refused_before_sending(
    keys: None, ask: Callable[..., Request]
) -> None:
    client = connect("openai/gpt-5")
    with pytest.raises(MissingLogprobs):
        client.wire(ask(top_logprobs=5))
    await client.aclose()


def test_clients_load_no_sdk_and_no_torch_before_they_are_used() -> None:
    code = (
        "import sys, harness.clients, harness.testing, harness.clients.providers.openai as o;"
        "import harness.clients.providers.anthropic, harness.clients.providers.replay;"
        "import harness.clients.providers.vllm, harness.clients.providers.ollama, harness.clients.providers.openrouter;"
        "print([m for m in ('openai', 'anthropic', 'torch', 'aiohttp', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
