"""The same task through both official SDKs, against a provider's server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.load import Run, load
from harness.analysis.score_table import score_table
from harness.runs.running import conduct
from harness.task import load_task
from harness.testing import FakeProvider

pytestmark = pytest.mark.anyio

OPENAI, ANTHROPIC = "openai-api/fake/m1", "anthropic/m2"


@pytest.fixture
def run(write_task: Callable[..., Path], point_at: Callable[..., None], tmp_path: Path) -> Callable[..., Any]:
    async def go() -> tuple[Run, FakeProvider]:
        task = write_task(
            explainer=[
                {"name": "chat", "kind": "contexts", "model": OPENAI},
                {"name": "messages", "kind": "contexts", "model": ANTHROPIC},
            ],
            scorer=[
                {"name": f"{kind}-{name}", "kind": kind, "model": model, "batch": 5}
                for kind in ("detection", "fuzzing")
                for name, model in (("chat", OPENAI), ("messages", ANTHROPIC))
            ],
        )
        async with FakeProvider() as provider:
            point_at(provider)
            outcome = await conduct(load_task(task), tmp_path / "run")
        assert outcome.failures == {}
        return load(tmp_path / "run"), provider

    return go


async def test_both_sdks_explain_and_score_with_probabilities_where_there_are_logprobs(run: Callable[..., Any]) -> None:
    loaded, provider = await run()
    assert {request.path for request in provider.requests} == {"/v1/chat/completions", "/v1/messages"}
    explanations = loaded.explanations()
    own = explanations[explanations["control"].isna()]
    assert set(own["explainer"]) == {"chat", "messages"}
    # the fake provider quotes the token marked most often, which is the latent's word
    assert [f'The token "w{latent}".' for latent in own["latent"]] == own["text"].tolist()
    scores = loaded.scores()
    assert set(scores["status"]) == {"ok"}
    verdicts = loaded.verdicts()
    for scorer, frame in scores.groupby("scorer"):
        with_logprobs = scorer.endswith("chat")
        assert set(frame["scorer_model"]) == {OPENAI if with_logprobs else ANTHROPIC}
        assert all((metrics["auroc"] is not None) == with_logprobs for metrics in frame["metrics"])
        mine = verdicts[verdicts["scorer"] == scorer]
        assert mine["probability"].notna().all() == with_logprobs
        assert mine["probability"].isna().all() != with_logprobs
        if with_logprobs:
            # a label is the side on which more than half of the probability lies
            assert ((mine["probability"] > 0.5) == (mine["label"] == 1)).all()
    real = scores[scores["control"].isna()]
    assert np.mean([metrics["balanced_accuracy"] for metrics in real["metrics"]]) > 0.75
    none = scores[scores["control"] == "none"]
    assert np.mean([metrics["balanced_accuracy"] for metrics in none["metrics"]]) < 0.7


async def test_explainers_from_two_protocols_end_in_one_table(run: Callable[..., Any]) -> None:
    loaded, _ = await run()
    for scorer in ("detection-chat", "detection-messages"):
        table = score_table(loaded.scores(), "balanced_accuracy", scorer)
        real = [arm for arm in table.ranked() if arm.control is None]
        assert {arm.explainer for arm in real} == {"chat", "messages"}
        # asked about the same latents, and as they explain alike they score alike
        first, second = table.pair(*real)
        assert len(first) == len(table.latents) == 4
        np.testing.assert_array_equal(first, second)


async def test_logprobs_and_seeds_are_asked_for_where_the_protocol_has_them(run: Callable[..., Any]) -> None:
    _, provider = await run()
    # the first request asks the model that nothing is known of whether it gives logprobs
    probing, *rest = provider.requests
    assert probing.body["logprobs"]
    judging = [request for request in rest if "[explanation]" not in str(request.body)]
    assert judging
    for request in judging:
        chat = request.path.endswith("completions")
        assert bool(request.body.get("logprobs")) == chat
        assert ("seed" in request.body) == chat
        assert request.body.get("temperature") == (0 if chat else None)  # which m2 takes is not known


async def test_usage_is_the_sum_of_what_the_provider_counted(run: Callable[..., Any]) -> None:
    loaded, provider = await run()
    attempts = loaded.ledger()
    assert len(attempts) == len(provider.requests) == provider.bill.generations
    assert attempts["output"].sum() == provider.bill.output > 0
    assert (attempts["input"] + attempts["cache_read"]).sum() == provider.bill.input + provider.bill.cache_read > 0
    stored = [reply.reply.usage for reply in loaded.journal.replies()]
    assert sum(usage.output for usage in stored) == provider.bill.output
