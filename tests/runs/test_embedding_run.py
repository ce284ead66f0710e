"""A run scored by embeddings: what is asked, once and for all, what it costs, and what is refused before it starts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import roc_auc_score

from harness.analysis.load import load
from harness.clients.local.embedding import Embedding
from harness.errors import TaskError
from harness.report import write_report
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.plan import aplan
from harness.runs.running import conduct
from harness.task import Task, load_task
from harness.testing import FakeProvider, Fault, storm

pytestmark = pytest.mark.anyio

MODEL = "openai-api/fake/embedder"
PRICED = {MODEL: {"price": {"input": 1000.0, "output": 0.0}}}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(seconds: float) -> None:
        return

    monkeypatch.setattr("harness.clients.pausing", lambda stopping: at_once)


@pytest.fixture
def task(write_task: Callable[..., Path], point_at: Callable[[Any], None]) -> Callable[..., Task]:
    def make(provider: FakeProvider | None = None, model: str = MODEL, *overrides: str, **tables: Any) -> Task:
        if provider is not None:
            point_at(provider)
        scorer = [{"name": "embedding", "kind": "embedding", "model": model, "prompt": "plain"}]
        primary = {"scorer": "embedding", "metric": "auroc"}
        settings = PRICED if model == MODEL else {}
        return load_task(write_task(**{"scorer": scorer, "primary": primary, "model": settings, **tables}), overrides)

    return make


def _bodies(provider: FakeProvider) -> list[tuple[str, ...]]:
    return [tuple(request.body["input"]) for request in provider.requests]


def _sent(directory: Path) -> tuple[int, int, float]:
    attempts = list(Journal(directory / JOURNAL).attempts())
    return len(attempts), sum(a.tokens for a in attempts), sum(a.dollars or 0.0 for a in attempts)


async def test_each_window_is_asked_for_once_and_the_figure_is_that_of_what_was_answered(
    task: Callable[..., Task], tmp_path: Path
) -> None:
    async with FakeProvider() as provider:
        outcome = await conduct(task(provider), tmp_path / "run")
    assert set(outcome.statuses) == {"ok"}
    bodies = _bodies(provider)
    assert len(set(bodies)) == len(bodies)
    # four latents, each with ten activating and ten silent windows, whatever the explanations; the probe is apart
    assert sorted(len(texts) for texts in bodies if len(texts) > 1) == [10] * 8
    found = load(tmp_path / "run")
    scores, verdicts = found.scores(), found.verdicts()
    assert len(scores) == 4 * len(("own", "shuffled", "none"))
    judged = verdicts.assign(control=verdicts.control.fillna("own")).groupby(["latent", "control"])
    for row in scores.assign(control=scores.control.fillna("own")).itertuples():
        mine = judged.get_group((row.latent, row.control))
        assert row.metrics["auroc"] == pytest.approx(roc_auc_score(mine.truth, mine.value))
    means = found.summary().set_index("control")["mean"]
    assert means[None] > means["shuffled"]  # the lexical explanation names the word, among others
    page = write_report(found).read_text()
    assert "AUROC" in page


async def test_nothing_is_asked_twice_across_restarts_with_faults_and_a_budget_that_ends(
    task: Callable[..., Task], tmp_path: Path
) -> None:
    weather = storm(0.2, ("rate_limit", "server_error", "nan_vector", "fewer_vectors"), wait=0.0)
    async with FakeProvider(faults=weather) as provider:
        whole = await conduct(task(provider), tmp_path / "whole")
        assert set(whole.statuses) == {"ok"}
        needed = {tuple(texts) for texts in _bodies(provider)}
        calm = len(provider.requests)
        answered: list[tuple[str, ...]] = []
        stops = 0
        for share in (0.2, 0.4, 0.7, 3.0, 3.0):
            limit = share * _sent(tmp_path / "whole")[2]
            outcome = await conduct(task(provider, MODEL, f"limits.spend={limit}"), tmp_path / "run")
            stops += outcome.stopped_by is not None
            assert _sent(tmp_path / "run")[2] <= limit
        assert stops >= 2
        assert set(outcome.statuses) == {"ok"}
        replies = Journal(tmp_path / "run" / JOURNAL).replies()
        answered = [tuple(reply.wire["body"]["input"]) for reply in replies]
        ok = [one for one in Journal(tmp_path / "run" / JOURNAL).attempts() if one.outcome == "ok"]
        assert set(answered) == needed
        assert len(ok) == len(answered) == len(set(answered))
        # units lost, replies kept: nothing is sent
        before = len(provider.requests)
        assert before > calm
        with closing(sqlite3.connect(tmp_path / "run" / JOURNAL, isolation_level=None)) as connection:
            connection.execute("DELETE FROM units")
        again = await conduct(task(provider, MODEL, f"limits.spend={limit}"), tmp_path / "run")
        assert set(again.statuses) == {"ok"}
        assert len(provider.requests) == before


async def test_the_plan_counts_what_the_run_then_sends(task: Callable[..., Task], tmp_path: Path) -> None:
    async with FakeProvider() as provider:
        before = await aplan(task(provider), tmp_path / "run")
        assert provider.requests == []
        await conduct(task(provider), tmp_path / "run")
        after = await aplan(task(provider), tmp_path / "run")
    calls, tokens, dollars = _sent(tmp_path / "run")
    lines = [line for line in before.lines if line.model == MODEL]
    assert sum(line.calls.low for line in lines) == pytest.approx(calls, abs=2)
    assert before.total.tokens.low <= tokens <= before.total.tokens.high
    assert (after.total.calls.expected, after.total.done.calls) == (0, calls)
    assert after.total.done.dollars == pytest.approx(dollars)


@pytest.mark.parametrize("kind", ["bad_request", "not_found"])
async def test_a_server_without_embeddings_is_found_out_by_one_question(
    task: Callable[..., Task], tmp_path: Path, kind: Any
) -> None:
    async with FakeProvider(faults=lambda received: Fault(kind)) as provider:
        with pytest.raises(TaskError, match=f"embedding: {MODEL} gives no embeddings; take an embedder, such as "):
            await conduct(task(provider), tmp_path / "run")
        assert len(provider.requests) == 1


@pytest.mark.parametrize("model", ["lexical/rules", "truth/planted", "openai/gpt-5-mini", "anthropic/claude-sonnet-5"])
async def test_models_that_embed_nothing_are_refused_by_name(
    task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-made-up-for-this-test")
    with pytest.raises(TaskError, match=rf"task\.toml: embedding: {model} gives no embeddings; take an embedder"):
        await conduct(task(None, model), tmp_path / "run")
    assert not (tmp_path / "run").exists()


async def test_an_embedder_in_process_reads_each_window_once_and_leaves_no_vectors_in_the_journal(
    task: Callable[..., Task], tmp_path: Path, embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []
    own = Embedding.embed

    def spy(self: Any, texts: Any, *rest: Any) -> Any:
        seen.append(tuple(texts))
        return own(self, texts, *rest)

    monkeypatch.setattr(Embedding, "embed", spy)
    outcome = await conduct(task(None, f"local/{embedder}"), tmp_path / "run")
    assert set(outcome.statuses) == {"ok"}
    assert len(set(seen)) == len(seen)
    assert sum(len(texts) for texts in seen if len(texts) > 1) == 4 * 20  # for three explanations of four latents
    journal = Journal(tmp_path / "run" / JOURNAL)
    assert list(journal.replies()) == []
    assert {unit.replies for arm in journal.arms() for unit in journal.units(arm)} == {()}
    tokens = sum(attempt.tokens for attempt in journal.attempts())
    assert tokens > 80 * 31
    made = await aplan(task(None, f"local/{embedder}"), tmp_path / "other")
    assert made.total.calls.low == pytest.approx(len(list(journal.attempts())), abs=1)
    assert len(seen) == len(set(seen)), "the plan embedded something"
