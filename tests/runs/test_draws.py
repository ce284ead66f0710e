"""The same arm drawn again: other examples, other explanations, other verdicts, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import load
from harness.clients.models import Models
from harness.runs.progress import Silent
from harness.runs.running import conduct
from harness.runs.trying import attempt
from harness.runs.units import Plan, make_plan
from harness.task import load_task
from harness.testing import FakeProvider, by_keywords
from harness.testing.answers import Messages

pytestmark = pytest.mark.anyio

WRITER = {"name": "a", "kind": "contexts", "model": "openai-api/fake/explainer"}
JUDGE = {"name": "detection", "kind": "detection", "model": "openai-api/fake/judge", "batch": 10}


@pytest.fixture
def plan(remote_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    monkeypatch.setenv("FAKE_BASE_URL", "http://127.0.0.1:9/v1")

    def make(*overrides: str, **tables: Any) -> Plan:
        task = load_task(remote_task(**tables), overrides)
        return make_plan(task, Models(task.model, lambda client: client), "s")

    return make


def test_the_first_draw_has_the_keys_that_it_has_unnamed(plan: Callable[..., Plan]) -> None:
    bare = plan()
    named = plan("examples.draw=0", "explainer.a.sample=0", "scorer.detection.sample=0")
    assert (bare.explanation_arms, bare.score_arms) == (named.explanation_arms, named.score_arms)


@pytest.mark.parametrize(
    ("override", "explanations", "scores"),
    [
        ("explainer.a.sample=1", True, False),
        ("scorer.detection.sample=1", False, True),
        ("examples.draw=1", True, True),
    ],
)
def test_another_draw_has_keys_of_its_own(
    plan: Callable[..., Plan], override: str, explanations: bool, scores: bool
) -> None:
    bare, drawn = plan(), plan(override)
    assert (bare.real_arms("words") != drawn.real_arms("words")) == explanations
    assert (bare.score_arms != drawn.score_arms) == scores


async def test_explainers_and_scorers_are_asked_anew_for_each_draw(
    remote_task: Callable[..., Path], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    told = iter(range(1000))

    def answer(messages: Messages, body: Mapping[str, Any]) -> str:
        said = by_keywords(messages, body)
        return f"[explanation]: number {next(told)}" if body["model"] == "explainer" else said

    task = remote_task(
        explainer=[WRITER, {**WRITER, "name": "b", "sample": 1}],
        scorer=[JUDGE, {**JUDGE, "name": "again", "sample": 1}],
        controls=[],
    )
    async with FakeProvider(answer) as provider:
        point_at(provider)
        await conduct(load_task(task), tmp_path / "run")
        asked = [received.body["model"] for received in provider.requests]
    frame = load(tmp_path / "run").explanations()
    assert len(set(frame["text"])) == len(frame) == 8
    # 4 latents, 2 draws each; 2 batches of 10 windows for each of 8 explanations and 2 draws of the judge
    assert (asked.count("explainer"), asked.count("judge")) == (8, 32)


async def test_another_draw_of_examples_is_of_the_same_latents(write_task: Callable[..., Path], tmp_path: Path) -> None:
    runs = []
    for draw in (0, 1):
        await conduct(load_task(write_task(), [f"examples.draw={draw}"]), tmp_path / str(draw))
        runs.append(load(tmp_path / str(draw)))
    assert runs[0].latents == runs[1].latents
    windows = [
        {(row["context"], row["start"]) for row in run.verdicts().to_dict("records") if row["latent"] == latent}
        for run in runs
        for latent in [run.latents["words"][0]]
    ]
    assert windows[0] != windows[1]


async def test_trying_shows_the_draw_that_the_task_names(
    remote_task: Callable[..., Path], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    async with FakeProvider(by_keywords) as provider:
        point_at(provider)
        for sample in (0, 1):
            task = load_task(remote_task(explainer=[{**WRITER, "sample": sample}], scorer=[JUDGE], controls=[]))
            await attempt(task, 3, "words", tmp_path / "run", Silent())
        asked = [received.body["model"] for received in provider.requests]
    assert asked.count("explainer") == 2
