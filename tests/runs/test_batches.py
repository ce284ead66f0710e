"""Runs whose requests go by batch: in several rounds, to the same results, at half the price, whatever goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import load
from harness.api import finished
from harness.clients.providers._batches import AnthropicBatches, OpenAIBatches
from harness.errors import RunStopped, TaskError
from harness.runs import batches
from harness.runs.batch_rows import BatchRows
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.outcomes import result_hash
from harness.runs.plan import aplan
from harness.runs.progress import Silent
from harness.runs.running import Outcome, conduct
from harness.runs.stop import Stop
from harness.task import load_task
from harness.testing import Answer, BatchFault, FakeProvider, Fault, by_keywords
from harness.values import digest

pytestmark = pytest.mark.anyio

OPENAI, ANTHROPIC = "openai/fake", "anthropic/fake"


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Trial:
    """One task, run again and again in one directory."""

    def __init__(self, write: Callable[..., Path], out: Path) -> None:
        self._write = write
        self.out = out
        self.notes: list[str] = []

    async def go(self, writer: str, judge: str, by: Any, **more: Any) -> Outcome:
        """Run once; `by` are the models that go by batch."""
        options = {name: more.pop(name) for name in ("wait", "retry_failed", "stop") if name in more}
        table: dict[str, dict[str, Any]] = {name: {"batch": name in by} for name in {writer, judge}}
        if OPENAI in table:
            table[OPENAI] |= {"logprobs": True}
        tables = {
            "model": table,
            "explainer": [{"name": "a", "kind": "contexts", "model": writer}],
            "scorer": [{"name": "detection", "kind": "detection", "model": judge, "batch": 5}],
            "latents": {"sample": 3, "min_examples": 50},
        }
        notes = Notes()
        try:
            return await conduct(load_task(self._write(**tables | more)), self.out, progress=notes, **options)
        finally:
            self.notes = notes.notes

    async def through(self, writer: str, judge: str, by: Any, most: int = 12, **more: Any) -> list[Outcome]:
        """Run until it is done."""
        found: list[Outcome] = []
        while not found or found[-1].waiting:
            found.append(await self.go(writer, judge, by, **more))
            assert len(found) <= most, "it does not end"
        return found

    @property
    def journal(self) -> Journal:
        return Journal(self.out / JOURNAL)


@pytest.fixture
def trial(write_task: Callable[..., Path], tmp_path: Path) -> Callable[[str], Trial]:
    return lambda name: Trial(write_task, tmp_path / name)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeProvider], None]:
    def point(provider: FakeProvider) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.openai_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)

    return point


@pytest.fixture
def found(units_of: Callable[[Path], Any]) -> Callable[[Path], dict[str, tuple[str, str]]]:
    """What a run came to, but for what it cost: status and a hash of the result by unit."""

    def read(directory: Path) -> dict[str, tuple[str, str]]:
        return {key: (unit.status, result_hash(unit)) for key, unit in units_of(directory).items()}

    return read


def _bodies(provider: FakeProvider) -> dict[str, int]:
    return dict(provider.counts)


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
async def test_results_are_those_of_a_live_run_and_stages_follow_each_other(
    model: str, trial: Callable[[str], Trial], at: Any, found: Any
) -> None:
    async with FakeProvider() as provider:
        at(provider)
        assert (await trial("live").go(model, model, ())).waiting == 0
        live = _bodies(provider)
        assert set(live.values()) == {1}
    async with FakeProvider(looks=1) as provider:
        at(provider)
        mine = trial("batch")
        first = await mine.go(model, model, [model])
        assert (first.waiting, first.stopped_by, dict(first.statuses)) == (1, None, {})
        # explanations, and scores of what needs none; the others follow when those are there
        early = len(provider.requests)
        outcomes = await mine.through(model, model, [model])
        assert outcomes[-1].failures == {}
        assert 0 < early < len(provider.requests)
        assert _bodies(provider) == live
        assert all(request.batch is not None for request in provider.requests)
        assert provider.bill.generations == len(live)
    assert found(mine.out) == found(trial("live").out)
    assert {digest(reply.wire["body"]) for reply in mine.journal.replies()} == set(live)


async def test_logprobs_come_through_a_batch(trial: Callable[[str], Trial], at: Any) -> None:
    async with FakeProvider() as provider:
        at(provider)
        mine = trial("run")
        await mine.through(OPENAI, OPENAI, [OPENAI])
    scores = load(mine.out).scores()
    assert all(metrics["auroc"] is not None for metrics in scores["metrics"])


async def test_live_arms_finish_while_batches_wait(trial: Callable[[str], Trial], at: Any, found: Any) -> None:
    explainers = [
        {"name": "live", "kind": "contexts", "model": OPENAI},
        {"name": "slow", "kind": "contexts", "model": ANTHROPIC},
    ]
    async with FakeProvider(looks=2) as provider:
        at(provider)
        mine = trial("mixed")
        outcome = await mine.go(ANTHROPIC, OPENAI, [ANTHROPIC], explainer=explainers)
        assert outcome.waiting == 1
        explanations, scores = load(mine.out).explanations(), load(mine.out).scores()
        assert set(explanations["explainer"].dropna()) == {"live"}
        own = scores[scores["control"].isna()]
        assert len(own[own["explainer"] == "live"]) == 3
        await mine.through(ANTHROPIC, OPENAI, [ANTHROPIC], explainer=explainers)
    async with FakeProvider() as provider:
        at(provider)
        await trial("live").go(ANTHROPIC, OPENAI, (), explainer=explainers)
    assert found(mine.out) == found(trial("live").out)


async def test_a_run_that_waits_says_so_and_waits_only_where_told_to(trial: Callable[[str], Trial], at: Any) -> None:
    async with FakeProvider(looks=1) as provider:
        at(provider)
        mine = trial("run")
        outcome = await mine.go(OPENAI, ANTHROPIC, [OPENAI, ANTHROPIC])
        # explanations of one, and scores without an explanation of the other
        with pytest.raises(RunStopped, match=r"^waiting for 2 batches, run again to collect$"):
            finished(outcome, report=False)
        assert [note.partition(":")[0] for note in mine.notes[-2:]] == ["submitted batch_0", "submitted msgbatch_1"]
        outcome = await mine.go(OPENAI, ANTHROPIC, [OPENAI, ANTHROPIC], wait=0.0)
        assert (outcome.waiting, outcome.failures) == (0, {})
        assert len(load(mine.out).scores()) == 3 * 3


async def test_the_ledger_shows_half_the_price_and_what_is_out_counts_in_full(
    trial: Callable[[str], Trial], at: Any
) -> None:
    price = {"input": 1.0, "output": 10.0}
    more: dict[str, Any] = {"model": {OPENAI: {"batch": True, "price": price, "logprobs": True}}}
    async with FakeProvider(looks=1) as provider:
        at(provider)
        mine = trial("run")
        await mine.go(OPENAI, OPENAI, (), **more)
        reserved = mine.journal.spent()
        ledger = load(mine.out).ledger()
        assert set(ledger["outcome"]) == {"waiting"}
        assert (reserved.dollars or 0) > 3 * provider.bill.dollars
        await mine.through(OPENAI, OPENAI, (), **more)
        assert mine.journal.spent().dollars == pytest.approx(provider.bill.dollars, rel=1e-9)
        assert provider.bill.dollars == pytest.approx((provider.bill.input + 10 * provider.bill.output) / 2e6)
    ledger = load(mine.out).ledger()
    assert set(ledger["outcome"]) == {"ok"}
    assert len(ledger) == len(provider.requests)


async def test_a_limit_holds_across_runs_and_lets_through_what_fits(trial: Callable[[str], Trial], at: Any) -> None:
    price = {"input": 1.0, "output": 10.0}
    async with FakeProvider(looks=1) as provider:
        at(provider)
        free = trial("free")
        await free.through(OPENAI, OPENAI, (), model={OPENAI: {"batch": True, "price": price, "logprobs": True}})
        whole = provider.bill.dollars
        requests = len(provider.requests)
    spend = 1.2 * whole
    more: dict[str, Any] = {
        "model": {OPENAI: {"batch": True, "price": price, "logprobs": True}},
        "limits": {"spend": spend},
    }
    async with FakeProvider(looks=1) as provider:
        at(provider)
        mine = trial("run")
        rounds = 0
        while True:
            outcome = await mine.go(OPENAI, OPENAI, (), **more)
            rounds += 1
            assert (mine.journal.spent().dollars or 0) <= spend + 1e-9
            if not outcome.waiting:
                break
            assert rounds < 60
        # near its end no request might fit any more: then it says so
        done = len(provider.requests)
        assert rounds > 6
        assert done > 0.6 * requests
        if done < requests:
            assert "the budget is used up" in (outcome.stopped_by or "")
        assert max(_bodies(provider).values()) == 1


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize("kind", ["errors", "expired", "cancelled", "duplicates"])
async def test_what_has_no_reply_is_asked_again_alone(
    kind: Any, model: str, trial: Callable[[str], Trial], at: Any, found: Any
) -> None:
    async with FakeProvider() as provider:
        at(provider)
        await trial("live").go(model, model, ())
        live = _bodies(provider)
    async with FakeProvider(batch_faults=[BatchFault(kind)]) as provider:
        at(provider)
        mine = trial("run")
        await mine.go(model, model, [model])
        whole = provider.batches.made[0].requests
        await mine.go(model, model, [model])
        assert any(note.startswith("collected") for note in mine.notes)
        outcomes = await mine.through(model, model, [model])
        assert outcomes[-1].failures == {}
        assert provider.bill.generations == len(live), "billed twice"
        assert set(_bodies(provider)) == set(live)
        outcomes = [attempt.outcome for attempt in mine.journal.attempts()]
        wanted = {"errors": "overloaded", "duplicates": "ok"}.get(kind, "expired")
        failed = outcomes.count(wanted) if wanted != "ok" else 0
        assert 0 < failed < whole or kind == "duplicates"
        assert outcomes.count("ok") == len(live)
        assert len(outcomes) == len(live) + failed
        # each counts once, and a budget gets back what it set aside once
        assert sum(row.replies for row in BatchRows(mine.journal).batches(("collected",))) == len(live)
    assert found(mine.out) == found(trial("live").out)


async def test_a_result_that_never_comes_is_asked_for_again(trial: Callable[[str], Trial], at: Any) -> None:
    async with FakeProvider(batch_faults=[BatchFault("missing", 0.3)]) as provider:
        at(provider)
        mine = trial("run")
        assert (await mine.through(ANTHROPIC, ANTHROPIC, [ANTHROPIC]))[-1].failures == {}
        kinds = [attempt.outcome for attempt in mine.journal.attempts()]
        assert kinds.count("missing") > 0
        assert set(kinds) == {"ok", "missing"}


async def test_a_request_that_fails_again_and_again_is_a_failure(trial: Callable[[str], Trial], at: Any) -> None:
    async with FakeProvider(faults=lambda _: Fault("server_error")) as provider:
        at(provider)
        mine = trial("run")
        outcomes = await mine.through(OPENAI, OPENAI, [OPENAI])
        assert outcomes[-1].failures["provider_error"] > 0
        assert set(_bodies(provider).values()) == {3}
        # run once more it is tried again
        assert (await mine.go(OPENAI, OPENAI, [OPENAI])).waiting == 1


async def test_what_the_provider_does_not_accept_is_not_sent_twice(trial: Callable[[str], Trial], at: Any) -> None:
    def refused(received: Any) -> Fault | None:
        return Fault("bad_request") if "w3" in json.dumps(received.body) else None

    async with FakeProvider(faults=refused) as provider:
        at(provider)
        mine = trial("run")
        outcome = (await mine.through(ANTHROPIC, ANTHROPIC, [ANTHROPIC]))[-1]
        # of three latents one could not be asked about, and none is left to shuffle with
        assert set(outcome.failures) <= {"provider_error", "no_partner"}
        assert outcome.failures["provider_error"] > 0
        assert max(_bodies(provider).values()) == 1


async def test_a_batch_that_fails_validation_stops_its_model_and_costs_nothing(
    trial: Callable[[str], Trial], at: Any
) -> None:
    async with FakeProvider(batch_faults=[BatchFault("invalid")]) as provider:
        at(provider)
        mine = trial("run")
        assert (await mine.go(OPENAI, OPENAI, [OPENAI])).waiting == 1
        outcome = await mine.go(OPENAI, OPENAI, [OPENAI])
        assert outcome.stopped_by == "openai/fake: batch_0 was refused: line 1: The model does not exist."
        assert (provider.bill.generations, mine.journal.spent().tokens) == (0, 0)
        assert BatchRows(mine.journal).keys() == set()
        # once that is put right it goes on
        assert (await mine.through(OPENAI, OPENAI, [OPENAI]))[-1].failures == {}
        assert max(_bodies(provider).values()) == 1


async def test_a_submission_that_anthropic_refuses_stops_its_model(trial: Callable[[str], Trial], at: Any) -> None:
    async with FakeProvider(batch_faults=[BatchFault("invalid")]) as provider:
        at(provider)
        mine = trial("run")
        outcome = await mine.go(ANTHROPIC, ANTHROPIC, [ANTHROPIC])
        assert "a batch could not be submitted" in (outcome.stopped_by or "")
        assert (outcome.waiting, mine.journal.spent().tokens) == (0, 0)
        assert (await mine.through(ANTHROPIC, ANTHROPIC, [ANTHROPIC]))[-1].failures == {}


async def test_a_batch_too_large_for_the_account_comes_back_in_halves(trial: Callable[[str], Trial], at: Any) -> None:
    async with FakeProvider(batch_faults=[BatchFault("token_limit")]) as provider:
        at(provider)
        mine = trial("run")
        outcome = await mine.go(OPENAI, OPENAI, [OPENAI], wait=0.0)
        assert (outcome.waiting, outcome.failures, outcome.stopped_by) == (0, {}, None)
        first, *others = provider.batches.made
        assert max(batch.requests for batch in others[:2]) == first.requests // 2
        assert max(_bodies(provider).values()) == 1


@pytest.mark.parametrize(("model", "api"), [(OPENAI, OpenAIBatches), (ANTHROPIC, AnthropicBatches)])
async def test_requests_are_parted_at_the_providers_sizes(
    model: str, api: Any, trial: Callable[[str], Trial], at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "most_requests", 4)
    async with FakeProvider() as provider:
        at(provider)
        await trial("number").through(model, model, [model])
        sizes = [batch.requests for batch in provider.batches.made]
        assert max(sizes) == 4
        assert sum(sizes) == len(provider.counts) == provider.bill.generations
    monkeypatch.setattr(api, "most_requests", 1000)
    monkeypatch.setattr(api, "most_bytes", 6000)
    async with FakeProvider() as provider:
        at(provider)
        assert (await trial("bytes").through(model, model, [model]))[-1].failures == {}
        assert len(provider.batches.made) > 3
        assert max(_bodies(provider).values()) == 1


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
async def test_a_batch_whose_id_never_arrived_is_found(model: str, trial: Callable[[str], Trial], at: Any) -> None:
    async with FakeProvider(looks=1, batch_faults=[BatchFault("reset")]) as provider:
        at(provider)
        mine = trial("run")
        outcome = await mine.go(model, model, [model])
        assert "a batch could not be submitted" in (outcome.stopped_by or "")
        assert outcome.waiting == 1
        assert (await mine.through(model, model, [model]))[-1].failures == {}
        assert max(_bodies(provider).values()) == 1


async def test_a_batch_that_is_in_no_list_yet_is_not_sent_again_too_soon(
    trial: Callable[[str], Trial], at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeProvider(batch_faults=[BatchFault("unlisted")]) as provider:
        at(provider)
        mine = trial("run")
        await mine.go(OPENAI, OPENAI, [OPENAI])
        for _ in range(2):
            assert (await mine.go(OPENAI, OPENAI, [OPENAI])).waiting == 1
        assert len(provider.batches.made) == 1
        monkeypatch.setattr(batches, "SETTLED", 0.0)
        assert (await mine.through(OPENAI, OPENAI, [OPENAI]))[-1].failures == {}


async def test_another_runs_batch_of_the_same_size_is_not_taken_for_ones_own(
    trial: Callable[[str], Trial], at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SETTLED", 0.0)
    async with FakeProvider(batch_faults=[None, BatchFault("unlisted")]) as provider:
        at(provider)
        await trial("other").go(ANTHROPIC, ANTHROPIC, [ANTHROPIC])
        mine = trial("run")
        await mine.go(ANTHROPIC, ANTHROPIC, [ANTHROPIC])
        await mine.go(ANTHROPIC, ANTHROPIC, [ANTHROPIC])
        assert not any(note.startswith("found") for note in mine.notes)
        assert [row.state for row in BatchRows(mine.journal).batches(("unsent", "out"))] == ["unsent", "out"]


async def test_a_reply_that_cannot_be_read_is_asked_again_in_the_next_batch(
    trial: Callable[[str], Trial], at: Any
) -> None:
    def answer(messages: Any, body: Any) -> Any:
        if "cannot be read" in messages[-1]["content"]:
            return by_keywords(messages[:-2], body)
        said = by_keywords(messages, body)
        return "I would rather not say." if str(said).startswith("[") else said

    async with FakeProvider(answer) as provider:
        at(provider)
        mine = trial("run")
        outcomes = await mine.through(ANTHROPIC, ANTHROPIC, [ANTHROPIC])
        again = [request for request in provider.requests if "cannot be read" in json.dumps(request.body)]
        assert outcomes[-1].failures == {}
        assert again
        first = {request.batch for request in provider.requests} - {request.batch for request in again}
        assert first
        assert max(_bodies(provider).values()) == 1


async def test_failed_units_that_are_retried_need_not_be_retried_twice(trial: Callable[[str], Trial], at: Any) -> None:
    refusing = True

    def answer(messages: Any, body: Any) -> Any:
        return Answer("No.", finish="refusal") if refusing else by_keywords(messages, body)

    async with FakeProvider(answer) as provider:
        at(provider)
        mine = trial("run")
        assert set((await mine.through(ANTHROPIC, ANTHROPIC, [ANTHROPIC]))[-1].failures) >= {"refused"}
        refusing = False
        before = len(provider.requests)
        assert (await mine.go(ANTHROPIC, ANTHROPIC, [ANTHROPIC], retry_failed=True)).waiting == 1
        assert (await mine.through(ANTHROPIC, ANTHROPIC, [ANTHROPIC]))[-1].failures == {}
        assert len(provider.requests) > before
        assert max(_bodies(provider).values()) == 2


async def test_a_batch_is_collected_where_the_task_has_its_model_no_more(
    trial: Callable[[str], Trial], at: Any
) -> None:
    async with FakeProvider() as provider:
        at(provider)
        mine = trial("run")
        await mine.go(ANTHROPIC, ANTHROPIC, [ANTHROPIC])
        outcome = await mine.go(OPENAI, OPENAI, ())
        assert (outcome.waiting, outcome.failures) == (0, {})
        assert BatchRows(mine.journal).batches() == []
        sent = [digest(request.body) for request in provider.requests]
        assert {digest(reply.wire["body"]) for reply in mine.journal.replies()} == set(sent)


async def test_a_run_that_is_stopped_submits_nothing_and_forgets_what_it_wrote_down(
    trial: Callable[[str], Trial], at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    note = BatchRows.note

    async def noted(self: BatchRows, *arguments: Any) -> None:
        await note(self, *arguments)
        stop.wish()

    async with FakeProvider() as provider:
        at(provider)
        mine = trial("run")
        monkeypatch.setattr(BatchRows, "note", noted)
        outcome = await mine.go(OPENAI, OPENAI, [OPENAI], stop=stop)
        assert outcome.interrupted
        assert provider.batches.made == []
        monkeypatch.setattr(BatchRows, "note", note)
        assert (await mine.through(OPENAI, OPENAI, [OPENAI]))[-1].failures == {}
        assert mine.journal.spent().tokens == provider.bill.input + provider.bill.output


async def test_a_batch_of_another_account_is_named(trial: Callable[[str], Trial], at: Any) -> None:
    async with FakeProvider() as provider:
        at(provider)
        mine = trial("run")
        await mine.go(OPENAI, OPENAI, [OPENAI])
        provider.batches.made.clear()
        outcome = await mine.go(OPENAI, OPENAI, [OPENAI])
        assert "openai/fake: batch_0 is not to be had from this account" in (outcome.stopped_by or "")
        assert outcome.waiting == 1
        assert provider.bill.generations == len(provider.requests)


@pytest.mark.parametrize("model", ["openrouter/a/b", "vllm/a/b", "openai-api/fake/a", "local/a", "lexical/rules"])
async def test_a_provider_without_a_batch_api_is_refused_before_anything(
    model: str, trial: Callable[[str], Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in ("OPENROUTER", "VLLM", "FAKE"):
        monkeypatch.setenv(f"{service}_BASE_URL", "http://127.0.0.1:1/v1")
    kind = model.partition("/")[0]
    with pytest.raises(
        TaskError, match=rf'model\."{model}"\]: batch: {kind}/ has no batch API: openai/ and anthropic/'
    ):
        await trial("run").go(model, model, [model])
    assert not trial("run").out.exists()


async def test_a_plan_tells_both_prices_and_counts_what_is_out_once(
    write_task: Callable[..., Path], tmp_path: Path, at: Any
) -> None:
    price = {"input": 1.0, "output": 10.0}

    def task(*, batch: bool) -> Any:
        model = {ANTHROPIC: {"batch": batch, "price": price}}
        writer = [{"name": "a", "kind": "contexts", "model": ANTHROPIC}]
        scorer = [{"name": "detection", "kind": "detection", "model": ANTHROPIC, "batch": 5}]
        return load_task(
            write_task(model=model, explainer=writer, scorer=scorer, latents={"sample": 6, "min_examples": 50})
        )

    async with FakeProvider(looks=1) as provider:
        at(provider)
        await conduct(task(batch=False), tmp_path / "run", limit=3)
        live, batch = [await aplan(task(batch=how), tmp_path / "run") for how in (False, True)]
        pilot = len(provider.requests)
        (one,), (other,) = live.offers, batch.offers
        assert (one.model, one.batch, other.batch) == (ANTHROPIC, False, True)
        assert one.live.expected == pytest.approx(live.total.dollars.expected)
        assert other.by_batch.expected == pytest.approx(batch.total.dollars.expected)
        # replies that were paid at the live price tell what those by batch will cost
        assert batch.total.dollars.expected == pytest.approx(live.total.dollars.expected / 2, rel=0.02)
        for each in (one, other):
            assert each.by_batch.expected == pytest.approx(each.live.expected / 2)
        await conduct(task(batch=True), tmp_path / "run")
        out = len(provider.requests) - pilot
        waiting = await aplan(task(batch=True), tmp_path / "run")
        assert waiting.total.done.calls == pilot + out
        while (await conduct(task(batch=True), tmp_path / "run")).waiting:
            pass
        assert waiting.total.calls.low <= len(provider.requests) - pilot - out <= waiting.total.calls.high
        assert (
            batch.total.dollars.low
            <= provider.bill.dollars - (live.total.done.dollars or 0)
            <= batch.total.dollars.high
        )
