"""A run with a surprisal scorer: figures are scikit-learn's of its journal, and what was asked is asked once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from harness.analysis.load import load
from harness.errors import TaskError
from harness.report import write_report
from harness.runs.running import conduct
from harness.task import load_task
from harness.testing import FakeProvider, Fault

pytestmark = pytest.mark.anyio

SUBJECT = Path(__file__).resolve().parents[2] / "fixtures" / "subject"
LOCAL = f"local/{SUBJECT}"
FAKE = "openai-api/fake/base"
Z0 = "Various unrelated sentences."


def scorer(model: str = LOCAL, **settings: Any) -> list[dict[str, Any]]:
    return [{"name": "surprisal", "kind": "surprisal", "model": model, "prompt": "tiny", **settings}]


async def test_figures_are_those_of_scikit_learn_on_the_journals_verdicts(
    write_task: Callable[..., Path], tmp_path: Path
) -> None:
    task = load_task(
        write_task(
            scorer=scorer(),
            model={LOCAL: {"threads": 1}},
            controls=["none", "generic", "shuffled"],
            primary={"scorer": "surprisal", "metric": "auroc"},
            latents={"sample": 3, "min_examples": 50},
        )
    )
    outcome = await conduct(task, tmp_path / "run")
    assert set(outcome.statuses) == {"ok"}
    run = load(tmp_path / "run")
    rows = list(run.score_rows())
    assert len(rows) == 3 * 4
    windows: set[tuple[int, int]] = set()
    for row in rows:
        assert row.unit is not None
        verdicts, metrics = row.verdicts, row.unit.result["metrics"]
        assert verdicts is not None
        windows |= set(zip(verdicts.context.tolist(), verdicts.start.tolist(), strict=True))
        assert metrics["auroc"] == pytest.approx(roc_auc_score(verdicts.truth, verdicts.value))
        assert metrics["average_precision"] == pytest.approx(average_precision_score(verdicts.truth, verdicts.value))
        for quantile, figure in metrics["by_quantile"].items():
            kept = (verdicts.truth == 0) | (verdicts.quantile == int(quantile))
            assert figure == pytest.approx(roc_auc_score(verdicts.truth[kept], verdicts.value[kept]))
        withheld = row.arm.control == "none"
        assert (metrics["auroc"] == 0.5) == withheld
        assert (row.unit.replies == ()) == withheld
    means = {row.control: row.mean for row in run.summary().itertuples() if isinstance(row.control, str)}
    assert means["none"] == 0.5
    assert write_report(run).stat().st_size > 10_000
    asked = [reply.wire["body"] for reply in run.journal.replies()]
    plain = Counter(body["continuation"] for body in asked if Z0 in body["messages"][-1]["content"])
    assert set(plain.values()) == {1}
    assert len(plain) <= len(windows)
    run.close()


async def test_a_model_without_logprobs_of_given_text_is_refused_before_the_run(
    write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TaskError, match=r"surprisal: lexical/rules gives no logprobs of prompts; take a base model"):
        await conduct(load_task(write_task(scorer=scorer("lexical/rules"))), tmp_path / "free")
    task = load_task(write_task(scorer=scorer(FAKE), model={FAKE: {"api": "completions"}}))
    mute = lambda received: Fault("null_logprobs")  # noqa: E731
    async with FakeProvider(faults=mute) as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        with pytest.raises(TaskError, match=rf"surprisal: {FAKE} gives no logprobs of prompts"):
            await conduct(task, tmp_path / "mute")
        assert len(provider.requests) == 1


async def test_a_run_that_is_done_asks_nothing_when_it_is_done_again(
    write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_task(write_task(scorer=scorer(FAKE), model={FAKE: {"api": "completions"}}))
    async with FakeProvider() as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        first = await conduct(task, tmp_path / "run")
        asked = [request.body["prompt"] for request in provider.requests]
        again = await conduct(task, tmp_path / "run")
        assert len(provider.requests) == len(asked)
    assert first.statuses == again.statuses
    assert set(Counter(asked).values()) == {1}
