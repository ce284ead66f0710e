from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.testing import ProviderProcess

EXPLAINER, JUDGE = "openai-api/fake/explainer", "openai-api/fake/judge"
PRICE = {"price": {"input": 1.0, "output": 10.0}}


@pytest.fixture
def paid(write_task: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a task that asks two priced models of the service `fake`."""
    explainer = [{"name": "a", "kind": "contexts", "model": EXPLAINER}]
    scorer = [{"name": "d", "kind": "detection", "model": JUDGE, "batch": 5}]
    model = {EXPLAINER: PRICE, JUDGE: PRICE}
    return lambda **tables: write_task(explainer=explainer, scorer=scorer, **{"model": model, **tables})


def test_plan_shows_what_is_done_and_what_is_to_come(
    harness: Callable[..., Any], paid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ProviderProcess() as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        path = paid(limits={"spend": 0.0001})
        before = harness("plan", path, "--set", "limits.spend=100")
        harness("run", path, "--limit", "1", "--set", "limits.spend=100", "--no-report")
        after = harness("plan", path, "--set", "limits.spend=100")
        over = harness("plan", path)
    assert before.code == after.code == over.code == 0
    assert before.out.splitlines()[0] == "t in runs/t: 4 of 4 latents to do, all of them rendered"
    # the only latent had nobody to swap explanations with: it is taken up again
    assert "4 of 4 latents to do" in after.out
    for word in ("explain", "score", "d (random)", "so far:     0 calls", "to come: ", "in the end: "):
        assert word in before.out
    assert "run the task with --limit 5 first" in before.out
    assert "so far:     0 calls" not in after.out
    assert after.out.splitlines()[-1].endswith(": the run fits")
    assert over.out.splitlines()[-1].endswith(": the run will stop before the end")


def test_plan_of_a_limit_and_of_clients_without_a_language_model(
    harness: Callable[..., Any], write_task: Callable[..., Path]
) -> None:
    said = harness("plan", write_task(), "--limit", "2", "--out", "elsewhere")
    assert said.out.splitlines()[0] == "t in elsewhere: 2 of 2 latents to do, all of them rendered"
    assert said.out.count("free") == 4
    assert "to come:    0 calls, 0 tokens, 0.0000 dollars" in said.out


def test_plan_without_activations_is_the_users_mistake(harness: Callable[..., Any]) -> None:
    said = harness("plan", "demo")
    assert said.code == 2
    assert "give --collect to collect them now" in said.err
    assert "Traceback" not in said.err


def test_plan_collects_when_told_to(harness: Callable[..., Any], tmp_path: Path) -> None:
    said = harness(
        "plan", "planted", "--collect", "--limit", "2", "--set", "subject.corpus.tokens=15000",
        "--set", "latents.min_examples=10",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "2 of 2 latents to do" in said.out
    assert (tmp_path / "stores").is_dir()
    assert not (tmp_path / "runs").exists()
