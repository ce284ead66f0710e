from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import registry
from harness.testing import ProviderProcess

JUDGE = "openai-api/fake/judge"


def test_without_a_name_all_providers_are_listed(harness: Callable[..., Any]) -> None:
    said = harness("models")
    assert said.out.splitlines() == [f"{name}/..." for name in registry.names("providers")]


def test_a_model_resolves_without_a_key_and_says_which_is_missing(harness: Callable[..., Any]) -> None:
    said = harness("models", "openai/gpt-5.4-mini")
    assert said.code == 0
    assert "https://api.openai.com/v1/chat/completions" in said.out
    assert "set the environment variable OPENAI_API_KEY" in said.out
    assert "input 0.75, output 4.5, cached input 0.075 dollars per million tokens (prices.toml)" in said.out


def test_a_key_is_never_shown(harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789abcdef")
    said = harness("models", "openai/gpt-4.1")
    assert said.code == 0
    assert "sk-secret" not in said.out + said.err
    assert "OPENAI_API_KEY" not in said.out


def test_settings_come_from_the_task(harness: Callable[..., Any], write_task: Callable[..., Path]) -> None:
    model = {JUDGE: {"base_url": "http://127.0.0.1:9/v1", "price": {"input": 3.0, "output": 4.0}, "context": 4096}}
    path = write_task(model=model)
    said = harness("models", JUDGE, "--task", path)
    assert "http://127.0.0.1:9/v1/chat/completions" in said.out
    assert f'input 3, output 4 dollars per million tokens ([model."{JUDGE}"].price)' in said.out
    assert "4,096 tokens" in said.out
    changed = harness("models", JUDGE, "--task", path, "--set", f'model."{JUDGE}".context=99')
    assert "99 tokens" in changed.out


def test_a_file_of_prices_is_named(
    harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text('[price."openai/gpt-5.4-mini"]\ninput = 7.0\noutput = 8.0\n')
    monkeypatch.setenv("LATENT_HARNESS_PRICES", str(tmp_path / "mine.toml"))
    assert f"input 7, output 8 dollars per million tokens ({tmp_path / 'mine.toml'})" in harness(
        "models", "openai/gpt-5.4-mini"
    ).out  # fmt: skip


def test_clients_without_a_language_model_say_so(harness: Callable[..., Any]) -> None:
    said = harness("models", "lexical/rules", "--ping")
    assert said.code == 0
    for word in ("without a language model", "free", "not sent"):
        assert word in said.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["opnai/gpt-5"], 'there is no provider "opnai"; did you mean "openai"?'),
        (["gpt-5"], 'model "gpt-5": write it as provider/model'),
        (["openai-api/lab/m"], "set the environment variable LAB_BASE_URL"),
        (["openai/gpt-5.4-mini", "--ping"], "set the environment variable OPENAI_API_KEY"),
        (["openai/gpt-5.4-mini", "--task", "nowhere.toml"], "nowhere.toml: no such task file"),
        (["openai/gpt-5.4-mini", "--set", "seed=1"], "give --task, too"),
        (["--ping"], "--ping: needs the name of a model"),
    ],
)
def test_mistakes_are_one_sentence(harness: Callable[..., Any], arguments: list[str], told: str) -> None:
    said = harness("models", *arguments)
    assert said.code == 2
    assert told in said.err
    assert len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize("fault", [None, "null_logprobs"])
def test_ping_sends_a_request_through_all_layers(
    harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, fault: str | None
) -> None:
    faults = [] if fault is None else ["--fault", fault, "--share", "1"]
    with ProviderProcess(*faults) as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        said = harness("models", JUDGE, "--ping")
    assert said.code == 0, said.err
    lines = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in said.out.splitlines()}
    assert lines["with logprobs"] == ("yes" if fault is None else "no")
    assert lines["took"].endswith("1 attempt" if fault is None else "2 attempts")
    assert " in, " in lines["tokens"]
    assert lines["answered by"] == "judge"


def test_a_ping_that_nobody_answers_stops_with_3(harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with ProviderProcess("--fault", "unauthorized", "--share", "1") as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        said = harness("models", JUDGE, "--ping")
    assert said.code == 3
    assert f"{JUDGE} did not answer: " in said.err


def test_an_embedder_is_asked_for_a_vector(harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with ProviderProcess() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.openai_url)
        said = harness("models", "openai/text-embedding-3-small", "--ping")
    assert said.code == 0
    for words in (
        f"{provider.openai_url}/embeddings",
        "8,192 tokens",
        "a vector of 64 numbers",
        "input 0.02, output 0",
    ):
        assert words in said.out
