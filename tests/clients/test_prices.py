from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.clients.ledger import Amount
from harness.clients.prices import VARIABLE, Price, price_of
from harness.errors import TaskError
from harness.values import Usage


def test_a_usage_costs_what_its_parts_cost() -> None:
    price = Price(input=2.0, output=10.0, cache_read=0.2, cache_write=2.5)
    usage = Usage(input=1000, cache_read=4000, cache_write=500, output=300, reasoning=200, requests=1)
    # reasoning is part of the output
    assert price.cost(usage) == pytest.approx((1000 * 2.0 + 4000 * 0.2 + 500 * 2.5 + 300 * 10.0) / 1e6)
    assert Price(input=2.0, output=10.0).cost(usage) == pytest.approx((5500 * 2.0 + 300 * 10.0) / 1e6)


def test_a_long_prompt_costs_more_from_its_first_token_on() -> None:
    price = price_of("anthropic/claude-haiku-5-5")
    assert price is not None
    assert price.cost(Usage(input=100_000)) == pytest.approx(0.01)
    assert price.cost(Usage(input=60_000, cache_read=40_001)) == pytest.approx((60_000 * 0.5 + 40_001 * 0.05) / 1e6)


def test_the_upper_bound_takes_the_highest_rate_that_may_apply() -> None:
    price = Price(input=1.0, output=5.0, cache_write=1.25, cache_read=0.1)
    assert price.most(1000, 100) == Amount(1100, pytest.approx((1000 * 1.25 + 100 * 5.0) / 1e6))
    tiered = Price(input=1.0, output=5.0, above=500, beyond={"input": 2.0, "output": 4.0})  # type: ignore[arg-type]
    assert tiered.most(501, 1) == Amount(502, pytest.approx((501 * 2.0 + 5.0) / 1e6))


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("openai/gpt-5-mini", "openai/gpt-5-mini"),
        ("openai/gpt-5-mini-2025-08-07", "openai/gpt-5-mini"),
        ("anthropic/claude-haiku-4-5-20251001", "anthropic/claude-haiku-4-5"),
        ("openai/gpt-4o-2024-08-06", "openai/gpt-4o"),
    ],
)
def test_dated_versions_cost_what_the_model_costs(name: str, like: str) -> None:
    assert price_of(name) == price_of(like) is not None


@pytest.mark.parametrize("name", ["openai/gpt-5-pro", "openai/gpt-4o-mini-audio", "openai-api/lab/gpt-5", "openai/g"])
def test_a_model_that_is_only_named_alike_has_no_price(name: str) -> None:
    assert price_of(name) is None


def test_what_runs_on_ones_own_machine_is_free() -> None:
    price = price_of("vllm/meta-llama/Llama-3.1-8B")
    assert price is not None
    assert price.cost(Usage(input=1000, output=1000)) == 0.0


def test_own_prices_go_before_those_of_a_file_and_these_before_the_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('[price."openai/gpt-5"]\ninput = 7\noutput = 8\n')
    monkeypatch.setenv(VARIABLE, str(file))
    assert price_of("openai/gpt-5") == Price(input=7, output=8)
    assert price_of("openai/gpt-5", {"price": {"input": 1, "output": 2}}) == Price(input=1, output=2)
    assert price_of("openai/gpt-5-mini") is not None


def test_list_prices_do_not_hold_for_other_service_tiers() -> None:
    assert price_of("openai/gpt-5", {"extra": {"service_tier": "priority"}}) is None
    assert price_of("openai/gpt-5", {"extra": {"service_tier": "default"}}) is not None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"price": 3.0}, r'\[model."openai/gpt-5"\].price: write it as \{ input = 1.0, output = 5.0 \}'),
        ({"price": {"input": 1.0}}, r'\[model."openai/gpt-5"\].price: output: is missing'),
        ({"price": {"input": -1.0, "output": 1.0}}, "greater than or equal to 0"),
        ({"price": {"input": 1.0, "output": 1.0, "above": 5}}, "above and beyond belong together"),
        ({"price": {"inputs": 1.0, "output": 1.0}}, "did you mean input"),
    ],
)
def test_a_wrong_price_is_named(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        price_of("openai/gpt-5", settings)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[price", "not valid TOML"),
        ("a = 1", r'needs tables such as \[price."openai/gpt-5-mini"\]'),
        ('[price."a/b"]\ninput = 1', r'price."a/b": output: is missing'),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    monkeypatch.setenv(VARIABLE, str(file))
    with pytest.raises(TaskError, match=rf"mine.toml: {sentence}"):
        price_of("openai/gpt-5")


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.toml"))
    with pytest.raises(TaskError, match=r"LATENT_HARNESS_PRICES: .*none.toml cannot be read"):
        price_of("openai/gpt-5")


def test_the_shipped_file_says_when_it_was_true_and_every_price_is_plausible() -> None:
    data = tomllib.loads((Path(__file__).parents[2] / "harness" / "clients" / "prices.toml").read_text())
    assert data["as_of"].year >= 2026
    for name in data["price"]:
        price = price_of(name.replace("*", "x"))
        assert price is not None, name
        # embedders write nothing
        assert price.output == (0.0 if "embedding" in name else max(price.input, price.output)), name
        assert (price.cache_read or 0.0) <= price.input, name
