"""What a latent took, against the provider's own count."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.analysis.costs import costs
from harness.analysis.load import load
from harness.runs.running import conduct
from harness.task import load_task
from harness.testing import FakeProvider
from harness.values import Usage

MODEL = "openai-api/fake/m"


def _score(latent: int, usage: Usage | None, **changes: Any) -> dict[str, Any]:
    base = {"latent": latent, "explainer": "a", "control": None, "scorer": "detection", "scorer_model": "openai/m"}
    told = None if usage is None else asdict(usage)
    return base | {"rung": "random", "n_pos": 10, "n_neg": 10, "usage": told} | changes


NO_EXPLANATIONS = pd.DataFrame(columns=["explainer", "control", "usage"])


def _costs(rows: list[dict[str, Any]]) -> list[dict[Any, Any]]:
    return costs(NO_EXPLANATIONS, pd.DataFrame(rows), {}).to_dict("records")


def test_means_are_over_scores_of_real_arms() -> None:
    rows = [
        _score(0, Usage(input=100, cache_read=50, output=8, reasoning=3, requests=4, cost=0.02)),
        _score(1, Usage(input=300, cache_write=50, output=12, requests=6, cost=0.04)),
        _score(0, Usage(input=9, requests=1, cost=9.0), control="none", explainer=None),
        _score(2, None),
    ]
    (row,) = _costs(rows)
    assert (row["stage"], row["name"], row["model"], row["units"]) == ("score", "detection", "openai/m", 2)
    assert (row["calls"], row["prompt"], row["cached"], row["reply"], row["reasoning"]) == (5, 250, 25, 10, 1.5)
    assert row["examples"] == 20
    assert row["dollars"] == pytest.approx(0.03)


def test_rungs_are_apart_and_scorers_without_explanations_are_there() -> None:
    usage = Usage(input=10, output=1, requests=1, cost=0.001)
    rows = [
        _score(0, usage),
        _score(0, usage + usage, rung="neighbour"),
        _score(0, usage, scorer="intruder", control="latent", explainer=None),
    ]
    told = {(row["name"], row["rung"]): row["calls"] for row in _costs(rows)}
    assert told == {("detection", "random"): 1, ("detection", "neighbour"): 2, ("intruder", "random"): 1}


def test_without_a_price_there_are_tokens_and_calls_and_no_dollars() -> None:
    (row,) = _costs([_score(0, Usage(input=10, requests=1, cost=0.1)), _score(1, Usage(input=20, requests=1))])
    assert (row["calls"], row["prompt"]) == (1, 15)
    assert math.isnan(row["dollars"])
    # a score of which nothing was asked, as all was refused, takes no price away
    (row,) = _costs([_score(0, Usage(input=10, requests=1, cost=0.1)), _score(1, Usage())])
    assert row["dollars"] == pytest.approx(0.05)


def test_a_runs_costs_are_what_the_provider_counted(
    write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    price = {"input": 2.0, "output": 8.0}
    task = write_task(
        explainer=[{"name": "a", "kind": "contexts", "model": MODEL}],
        scorer=[{"name": "detection", "kind": "detection", "model": MODEL, "batch": 5}],
        controls=[],
        model={MODEL: {"logprobs": True, "price": price}},
    )

    async def go() -> FakeProvider:
        async with FakeProvider() as provider:
            monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
            await conduct(load_task(task), tmp_path / "out")
            return provider

    provider = asyncio.run(go())
    run = load(tmp_path / "out")
    table = costs(run.explanations(), run.scores(), {"a": MODEL}).set_index("stage")
    assert table["units"].tolist() == [4, 4]
    assert table["calls"].tolist() == [1, 4]  # 20 examples in fives
    assert 4 * table["calls"].sum() == len(provider.requests)
    ledger = run.ledger()
    for stage in ("explain", "score"):
        own, row = ledger[ledger["stage"] == stage], table.loc[stage]
        assert 4 * row["prompt"] == own["input"].sum() + own["cache_read"].sum() + own["cache_write"].sum()
        assert 4 * row["reply"] == own["output"].sum()
        assert 4 * row["dollars"] == pytest.approx(own["dollars"].sum())
        assert row["dollars"] == pytest.approx((2 * row["prompt"] + 8 * row["reply"]) / 1e6)
