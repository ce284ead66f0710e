from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from harness.analysis.load import load
from harness.errors import PromptError, RunError
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.journal_rows import Unit
from harness.runs.keys import latent_order
from harness.runs.progress import Silent
from harness.runs.running import Outcome, conduct
from harness.runs.stop import Stop
from harness.task import load_task
from harness.testing import Answer, FakeProvider, Fault, Received, by_keywords
from harness.values import Status

pytestmark = pytest.mark.anyio

Units = dict[str, Unit]
Faults = Callable[[Received], Fault | None]


@pytest.fixture
def run(tmp_path: Path, remote_task: Callable[..., Path]) -> Callable[..., Any]:
    """Runs a task in `tmp_path / "run"`; keywords of `remote_task`, and `overrides`, `out` and those of `conduct`."""

    async def go(*overrides: str, out: str = "run", options: Mapping[str, Any] | None = None, **tables: Any) -> Outcome:
        return await conduct(load_task(remote_task(**tables), overrides), tmp_path / out, **dict(options or {}))

    return go


def _arms(directory: Path) -> dict[str, Mapping[str, Any]]:
    return Journal(directory / JOURNAL).arms()


def _of(directory: Path, units: Units, *, control: str | None = None, scorer: bool = False) -> dict[int, Unit]:
    """The explanations of the real arm or a control, or the scores, of a run with one of each; by latent."""
    arms = _arms(directory)
    wanted = [key for key, arm in arms.items() if ("scorer" in arm) == scorer and arm.get("control") == control]
    return {unit.latent: unit for unit in units.values() if unit.arm in wanted}


def _faulty(model: str, *faults: Fault | None, times: int | None = None) -> Faults:
    """The same fault for each of a model's first requests (all, if `times` is None)."""
    met: Counter[str] = Counter()

    def fault(received: Received) -> Fault | None:
        if received.body["model"] != model or (times is not None and met[model] >= times):
            return None
        met[model] += 1
        return faults[0]

    return fault


def _bodies(provider: FakeProvider, model: str) -> list[Mapping[str, Any]]:
    return [request.body for request in provider.requests if request.body["model"] == model]


class _Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.begun: tuple[int, int] | None = None
        self.units: Counter[Status] = Counter()
        self.latents = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def begin(self, latents: int, units: int, spent: object) -> None:
        self.begun = (latents, units)

    def unit(self, status: Status) -> None:
        self.units[status] += 1

    def latent(self) -> None:
        self.latents += 1


async def test_every_arm_of_every_latent_is_scored(
    run: Callable[..., Any], point_at: Callable[..., None], units_of: Callable[..., Units], tmp_path: Path
) -> None:
    told = _Told()
    async with FakeProvider() as provider:
        point_at(provider)
        outcome = await run(options={"progress": told})
    # an explanation and a shuffled one each, and three scores: real, shuffled, none
    assert outcome == Outcome(tmp_path / "run", {"ok": 4 * 5})
    assert told.begun == (4, 20)
    assert told.units == {"ok": 20}
    assert told.latents == 4
    units = units_of(tmp_path / "run")
    assert len(_of(tmp_path / "run", units)) == len(_of(tmp_path / "run", units, control="shuffled")) == 4
    assert len(_bodies(provider, "explainer")) == 4


async def test_a_run_that_is_done_asks_draws_and_writes_nothing(
    run: Callable[..., Any],
    point_at: Callable[..., None],
    results_of: Callable[..., set[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        await run(controls=["shuffled", "generic", "none"])
        before, asked = results_of(tmp_path / "run"), len(provider.requests)
        monkeypatch.setattr("harness.runs.conductor.draw", lambda *_, **__: pytest.fail("examples were drawn"))
        monkeypatch.setattr(Journal, "finish", lambda *_: pytest.fail("a unit was written"))
        outcome = await run(controls=["shuffled", "generic", "none"])
        assert len(provider.requests) == asked
    assert results_of(tmp_path / "run") == before
    assert outcome.statuses == {"ok": 4 * 6}


@pytest.mark.parametrize("most", [1, 3])
async def test_no_more_latents_than_allowed_are_under_way(
    run: Callable[..., Any], point_at: Callable[..., None], most: int
) -> None:
    peak = 0

    class Watched(Silent):
        done = 0

        def latent(self) -> None:
            self.done += 1

    watched = Watched()
    explained = 0

    def answer(messages: Any, body: Mapping[str, Any]) -> Any:
        nonlocal explained, peak
        explained += body["model"] == "explainer"
        peak = max(peak, explained - watched.done)
        return by_keywords(messages, body)

    async with FakeProvider(answer) as provider:
        point_at(provider)
        await run(
            f"limits.latents={most}",
            controls=[],
            latents={"sample": 8, "min_examples": 50},
            options={"progress": watched},
        )
    assert watched.done == explained == 8
    assert peak == most


@pytest.mark.parametrize("most", [1, 4])
async def test_no_more_requests_than_allowed_are_under_way(
    run: Callable[..., Any], point_at: Callable[..., None], most: int
) -> None:
    async with FakeProvider(delay=0.003) as provider:
        point_at(provider)
        await run(
            f"limits.requests={most}",
            scorer=[{"name": "d", "kind": "detection", "model": "openai-api/fake/judge", "batch": 2}],
        )
    # a gate for each of the two models
    assert most <= provider.peak <= 2 * most


async def test_the_shuffled_explanation_is_the_next_one_in_the_cycle(
    run: Callable[..., Any], point_at: Callable[..., None], units_of: Callable[..., Units], tmp_path: Path
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        await run()
    directory = tmp_path / "run"
    units, cycle = units_of(directory), Journal(directory / JOURNAL).tasks()[-1].record["latents"]["words"]
    real, shuffled = _of(directory, units), _of(directory, units, control="shuffled")
    for latent, following in zip(cycle, cycle[1:] + cycle[:1], strict=True):
        assert shuffled[latent].result["partner"] == following
        assert shuffled[latent].result["text"] == real[following].result["text"]
        assert not shuffled[latent].pending


async def test_a_partner_with_a_like_decoder_is_skipped(
    run: Callable[..., Any],
    point_at: Callable[..., None],
    units_of: Callable[..., Units],
    tmp_path: Path,
    make_store: Callable[..., Any],
) -> None:
    first, second, third, fourth = latent_order(0, "words", 12).tolist()[:4]
    decoder = np.eye(12, dtype=np.float16)
    # cosines: 0.33 of the first and second, 0.27 of the second and third
    decoder[first, second] = 0.35
    decoder[third, second] = 0.28
    store = make_store(tmp_path / "store", decoder=decoder)
    async with FakeProvider() as provider:
        point_at(provider)
        await run(store={"path": str(store.path)})
    shuffled = _of(tmp_path / "run", units_of(tmp_path / "run"), control="shuffled")
    partners = {latent: unit.result["partner"] for latent, unit in shuffled.items()}
    assert partners == {first: third, second: third, third: fourth, fourth: first}


async def test_where_all_are_alike_there_is_no_partner(
    run: Callable[..., Any],
    point_at: Callable[..., None],
    units_of: Callable[..., Units],
    tmp_path: Path,
    make_store: Callable[..., Any],
) -> None:
    store = make_store(tmp_path / "store", decoder=np.ones((12, 3), np.float16))
    async with FakeProvider() as provider:
        point_at(provider)
        outcome = await run(store={"path": str(store.path)})
    shuffled = _of(tmp_path / "run", units_of(tmp_path / "run"), control="shuffled")
    assert {unit.status for unit in shuffled.values()} == {"no_partner"}
    assert outcome.statuses == {"ok": 4 * 3, "no_partner": 4}


async def test_one_latent_alone_has_no_partner(run: Callable[..., Any], point_at: Callable[..., None]) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        outcome = await run(options={"limit": 1})
    assert outcome.failures == {"no_partner": 1}


async def test_limit_first_and_all_later_gives_what_all_at_once_gives(
    run: Callable[..., Any],
    point_at: Callable[..., None],
    results_of: Callable[..., set[Any]],
    units_of: Callable[..., Units],
    tmp_path: Path,
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        await run(options={"limit": 2})
        first = len(provider.requests)
        await run()
        in_two = len(provider.requests)
        await run(out="whole")
    both, whole = results_of(tmp_path / "run"), results_of(tmp_path / "whole")
    # beyond it there is only the shuffle at the end of the short cycle, with its score
    assert whole < both
    last = [units_of(tmp_path / "run")[key] for key, *_ in both - whole]
    assert {_arms(tmp_path / "run")[unit.arm].get("control", "score") for unit in last} == {"shuffled", "score"}
    assert len(last) == 2
    assert 0 < first < in_two


async def test_a_short_cycle_gone_through_to_its_end_is_looked_at_again(
    run: Callable[..., Any],
    point_at: Callable[..., None],
    units_of: Callable[..., Units],
    results_of: Callable[..., set[Any]],
    tmp_path: Path,
) -> None:
    cycle = latent_order(0, "words", 12).tolist()
    second = f'"w{cycle[1]}"'

    def answer(messages: Any, body: Mapping[str, Any]) -> Any:
        found = by_keywords(messages, body)
        return Answer("no", finish="refusal") if body["model"] == "explainer" and second in found else found

    async with FakeProvider(answer) as provider:
        point_at(provider)
        # the first's partner, the second, has no explanation, and there is no third
        await run(options={"limit": 2})
        shuffled = _of(tmp_path / "run", units_of(tmp_path / "run"), control="shuffled")
        assert shuffled[cycle[0]].status == "no_partner"
        await run()
        await run(out="whole")
    shuffled = _of(tmp_path / "run", units_of(tmp_path / "run"), control="shuffled")
    assert shuffled[cycle[0]].result["partner"] == cycle[2]
    assert results_of(tmp_path / "whole") < results_of(tmp_path / "run")


@pytest.mark.parametrize(
    ("fault", "status"),
    [("refusal", "refused"), ("content_filter", "refused"), ("truncated", "truncated"), ("empty", "unparsable")],
)
async def test_an_explanation_that_fails_is_a_value_and_stays(
    run: Callable[..., Any],
    point_at: Callable[..., None],
    units_of: Callable[..., Units],
    tmp_path: Path,
    fault: Any,
    status: Status,
) -> None:
    async with FakeProvider(faults=_faulty("explainer", Fault(fault))) as provider:
        point_at(provider)
        outcome = await run(controls=["none"])
        asked = len(_bodies(provider, "explainer"))
        assert outcome.statuses == {status: 4, "ok": 4}
        assert asked == (8 if status == "unparsable" else 4)  # one that cannot be read is asked for once more
        again = await run(controls=["none"])
        # what was refused by a status and not in a reply is known by its unit alone
        assert again.statuses == outcome.statuses
        assert len(_bodies(provider, "explainer")) == asked
    for unit in _of(tmp_path / "run", units_of(tmp_path / "run")).values():
        assert (unit.status, unit.pending) == (status, False)
        assert unit.result["message"]


async def test_a_reply_that_cannot_be_read_is_told_what_was_wrong_once(
    run: Callable[..., Any], point_at: Callable[..., None], units_of: Callable[..., Units], tmp_path: Path
) -> None:
    def answer(messages: Any, body: Mapping[str, Any]) -> Any:
        told = messages[-1]["content"]
        if body["model"] == "judge" and "cannot be read" not in told:
            return "I would rather not say."
        return by_keywords(messages[:-2] if "cannot be read" in told else messages, body)

    async with FakeProvider(answer) as provider:
        point_at(provider)
        outcome = await run(controls=["none"])
    assert outcome.statuses == {"ok": 12}
    for unit in _of(tmp_path / "run", units_of(tmp_path / "run"), scorer=True).values():
        assert len(unit.replies) == 4  # two batches, each asked twice
        assert unit.result["usage"]["requests"] == 4
    first, second = _bodies(provider, "judge")[0]["messages"], None
    for body in _bodies(provider, "judge"):
        if body["messages"][: len(first)] == first and len(body["messages"]) > len(first):
            second = body["messages"][len(first) :]
    assert second is not None
    assert [message["role"] for message in second] == ["assistant", "user"]


async def test_a_provider_error_is_pending_and_done_when_resumed(
    run: Callable[..., Any],
    point_at: Callable[..., None],
    units_of: Callable[..., Units],
    results_of: Callable[..., set[Any]],
    tmp_path: Path,
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        await run(out="undisturbed")
        provider_requests = len(provider.requests)
    async with FakeProvider(faults=_faulty("explainer", Fault("bad_request"))) as provider:
        point_at(provider)
        outcome = await run()
        # one attempt each, whoever else wants the explanation
        assert len(_bodies(provider, "explainer")) == 4
        assert outcome.failures == {"provider_error": 4, "no_partner": 4}
        units = _of(tmp_path / "run", units_of(tmp_path / "run"))
        assert all(unit.pending and "not valid" in unit.result["message"] for unit in units.values())
    async with FakeProvider() as provider:
        point_at(provider)
        resumed = await run()
        assert resumed.failures == {}
        assert len(provider.requests) < provider_requests  # the scores of "none" were there
    # the address of the provider is part of no result
    undisturbed = {found[1:] for found in results_of(tmp_path / "undisturbed")}
    assert undisturbed == {found[1:] for found in results_of(tmp_path / "run")}


async def test_a_shuffle_that_passed_over_a_passing_failure_is_done_again(
    run: Callable[..., Any],
    point_at: Callable[..., None],
    units_of: Callable[..., Units],
    results_of: Callable[..., set[Any]],
    tmp_path: Path,
) -> None:
    async with FakeProvider(faults=_faulty("explainer", Fault("bad_request"), times=1)) as provider:
        point_at(provider)
        await run("limits.latents=1")
        units = units_of(tmp_path / "run")
        (failed,) = [n for n, unit in _of(tmp_path / "run", units).items() if unit.status == "provider_error"]
        cycle = Journal(tmp_path / "run" / JOURNAL).tasks()[-1].record["latents"]["words"]
        before = cycle[cycle.index(failed) - 1]
        shuffled = _of(tmp_path / "run", units, control="shuffled")[before]
        assert (shuffled.result["partner"], shuffled.pending) == (cycle[(cycle.index(failed) + 1) % 4], True)
        await run("limits.latents=1")
        shuffled = _of(tmp_path / "run", units_of(tmp_path / "run"), control="shuffled")[before]
        assert (shuffled.result["partner"], shuffled.pending) == (failed, False)
        await run(out="undisturbed")
    assert results_of(tmp_path / "undisturbed") <= results_of(tmp_path / "run")


async def test_retry_failed_does_failed_units_again_and_no_others(
    run: Callable[..., Any], point_at: Callable[..., None], tmp_path: Path
) -> None:
    async with FakeProvider(faults=_faulty("explainer", Fault("refusal"), times=2)) as provider:
        point_at(provider)
        assert (await run(controls=["none"])).failures == {"refused": 2}
        asked = len(provider.requests)
        assert (await run(controls=["none"], options={"retry_failed": True})).failures == {}
        # two explanations, and their scores of two batches
        assert len(provider.requests) == asked + 2 + 2 * 2
        await run(controls=["none"], options={"retry_failed": True})
        assert len(provider.requests) == asked + 2 + 2 * 2


async def test_retry_failed_tries_what_fails_again_once(run: Callable[..., Any], point_at: Callable[..., None]) -> None:
    async with FakeProvider(faults=_faulty("explainer", Fault("refusal"))) as provider:
        point_at(provider)
        await run()
        await run(options={"retry_failed": True})
        assert len(_bodies(provider, "explainer")) == 8


@pytest.mark.parametrize("fault", ["unauthorized", "quota", "not_found"])
async def test_an_account_that_fails_stops_the_run_and_what_was_paid_for_stays(
    run: Callable[..., Any],
    point_at: Callable[..., None],
    results_of: Callable[..., set[Any]],
    units_of: Callable[..., Units],
    tmp_path: Path,
    fault: Any,
) -> None:
    broke = True

    def fail(received: Received) -> Fault | None:
        return Fault(fault) if broke and received.number >= 8 else None

    async with FakeProvider(faults=fail) as provider:
        point_at(provider)
        outcome = await run("limits.requests=1", "limits.latents=2")
        assert outcome.stopped_by is not None
        assert not outcome.interrupted
        # nothing goes out after the first such answer, but for what was on its way to the other model
        assert 9 <= len(provider.requests) <= 10
        assert {unit.status for unit in units_of(tmp_path / "run").values()} == {"ok"}
        assert len(list(Journal(tmp_path / "run" / JOURNAL).replies())) == 8
        paid = {request.digest for request in provider.requests[:8]}
        broke = False
        assert (await run()).stopped_by is None
        assert {provider.counts[asked] for asked in paid} == {1}
        await run(out="undisturbed")
    assert results_of(tmp_path / "undisturbed") == results_of(tmp_path / "run")


async def test_a_failed_account_stops_the_arms_of_other_accounts_too(
    run: Callable[..., Any], point_at: Callable[..., None]
) -> None:
    def fail(received: Received) -> Fault | None:
        return Fault("quota") if received.body["model"] == "explainer" else None

    async with FakeProvider(faults=fail) as provider:
        point_at(provider)
        outcome = await run(
            "limits.latents=2",
            explainer=[
                {"name": "dead", "kind": "contexts", "model": "openai-api/fake/explainer"},
                {"name": "alive", "kind": "contexts", "model": "anthropic/other"},
            ],
            scorer=[{"name": "d", "kind": "detection", "model": "anthropic/judge", "batch": 2}],
            latents={"sample": 8, "min_examples": 50},
        )
        assert outcome.stopped_by is not None
        # the two latents' own, and the one that the second is to be swapped with
        assert len(_bodies(provider, "explainer")) <= 3
        assert len(_bodies(provider, "judge")) < 8 * 10


async def test_a_score_stands_on_the_verdicts_that_are_there(
    run: Callable[..., Any], point_at: Callable[..., None], units_of: Callable[..., Units], tmp_path: Path
) -> None:
    refused: set[str] = set()

    def refuse(received: Received) -> Fault | None:
        """The last message's first passage decides: about a third of the batches."""
        if received.body["model"] != "judge" or int(received.digest, 16) % 3:
            return None
        refused.add(received.digest)
        return Fault("refusal")

    scorer = [{"name": "d", "kind": "detection", "model": "openai-api/fake/judge", "batch": 2}]
    async with FakeProvider(faults=refuse) as provider:
        point_at(provider)
        await run(scorer=scorer, controls=["none"])
    scores = _of(tmp_path / "run", units_of(tmp_path / "run"), scorer=True)
    assert refused
    statuses = Counter(unit.status for unit in units_of(tmp_path / "run").values())
    assert set(statuses) <= {"ok", "refused"}
    from harness.scorers.verdicts import Verdicts

    for unit in scores.values():
        assert unit.verdicts is not None
        verdicts = Verdicts.unpack(unit.verdicts)
        assert verdicts.failures().keys() <= {"refused"}
        answered = verdicts.answered
        halves = [2 * int(answered[verdicts.truth == side].sum()) >= 10 for side in (0, 1)]
        assert (unit.status == "ok") == all(halves)
        # a refusal stays: it was paid for
        assert not unit.pending
        right = [verdicts.label[answered & (verdicts.truth == side)] == side for side in (0, 1)]
        if unit.status == "ok":
            assert unit.result["metrics"]["balanced_accuracy"] == pytest.approx(
                np.mean([part.mean() for part in right])
            )


async def test_verdicts_missing_for_a_passing_reason_are_asked_for_again_and_no_others(
    run: Callable[..., Any],
    point_at: Callable[..., None],
    units_of: Callable[..., Units],
    results_of: Callable[..., set[Any]],
    tmp_path: Path,
) -> None:
    scorer = [{"name": "d", "kind": "detection", "model": "openai-api/fake/judge", "batch": 5}]
    async with FakeProvider(faults=_faulty("judge", Fault("bad_request"), times=3)) as provider:
        point_at(provider)
        await run(scorer=scorer, controls=[])
        asked = len(provider.requests)
        assert any(unit.pending for unit in units_of(tmp_path / "run").values())
        assert (await run(scorer=scorer, controls=[])).failures == {}
        assert len(provider.requests) == asked + 3
        assert not any(unit.pending for unit in units_of(tmp_path / "run").values())
        await run(scorer=scorer, controls=[], out="undisturbed")
    assert results_of(tmp_path / "run") == results_of(tmp_path / "undisturbed")


async def test_a_latent_that_hardly_fires_is_told_and_the_run_goes_on(
    run: Callable[..., Any], point_at: Callable[..., None], tmp_path: Path, make_store: Callable[..., Any]
) -> None:
    """The words store's latents beyond the vocabulary never fire."""
    store = make_store(tmp_path / "wide", latents=44)
    async with FakeProvider() as provider:
        point_at(provider)
        outcome = await run(store={"path": str(store.path)}, latents={"ids": [3, 42], "min_examples": 50})
    # explanation, scores of the shuffle and of none; its shuffle and the other's explanation and scores are there
    assert outcome.failures == {"too_few_examples": 3, "no_partner": 1}
    assert outcome.statuses["ok"] > 0


async def test_first_wish_to_stop_sends_nothing_new_and_keeps_what_is_under_way(
    run: Callable[..., Any], point_at: Callable[..., None], results_of: Callable[..., set[Any]], tmp_path: Path
) -> None:
    stop = Stop()
    received: list[int] = []

    def answer(messages: Any, body: Mapping[str, Any]) -> Any:
        received.append(len(received))
        if len(received) == 12:
            stop.wish()
        return by_keywords(messages, body)

    async with FakeProvider(answer, delay=0.002) as provider:
        point_at(provider)
        outcome = await run("limits.requests=3", options={"stop": stop})
        assert outcome.interrupted
        assert outcome.stopped_by is None
        # what had gone out by then: no more than a slot's worth for each of two models
        assert len(provider.requests) <= 12 + 6
        kept = len(list(Journal(tmp_path / "run" / JOURNAL).replies()))
        assert kept == len(provider.requests)
        outcomes = {attempt.outcome for attempt in Journal(tmp_path / "run" / JOURNAL).attempts()}
        assert outcomes <= {"ok", "drained"}
        whole = await run()
        assert not whole.interrupted
        assert max(provider.counts.values()) == 1
        await run(out="undisturbed")
    assert results_of(tmp_path / "run") == results_of(tmp_path / "undisturbed")


async def test_a_second_wish_to_stop_waits_for_nobody(
    run: Callable[..., Any], point_at: Callable[..., None], tmp_path: Path
) -> None:
    stop = Stop()

    def hang(received: Received) -> Fault | None:
        if received.number == 5:
            stop.wish()
            stop.wish()
        return Fault("hang") if received.number >= 5 else None

    async with FakeProvider(faults=hang) as provider:
        point_at(provider)
        with anyio.fail_after(30):
            outcome = await run(options={"stop": stop})
        assert outcome.interrupted
        assert len(list(Journal(tmp_path / "run" / JOURNAL).replies())) <= 5
    async with FakeProvider() as provider:
        point_at(provider)
        assert not (await run()).interrupted


async def test_a_prompt_that_fails_on_a_question_is_the_users_mistake_and_not_a_group_of_errors(
    run: Callable[..., Any], point_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.questions.kinds import Detect
    from harness.questions.prompts import Variant

    render = Variant.render

    def broken(self: Variant, question: Any) -> Any:
        if isinstance(question, Detect):
            raise PromptError("detect.toml: it fails on this question")
        return render(self, question)

    async with FakeProvider() as provider:
        point_at(provider)
        monkeypatch.setattr(Variant, "render", broken)
        with pytest.raises(PromptError, match="it fails on this question"):
            await run()


async def test_a_journal_that_cannot_be_written_ends_the_run_with_a_sentence(
    run: Callable[..., Any], point_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise RunError("journal.sqlite: the journal cannot be written: disk full")

    async with FakeProvider() as provider:
        point_at(provider)
        monkeypatch.setattr(Journal, "keep", full)
        with pytest.raises(RunError, match="disk full"):
            await run()
        assert len(provider.requests) <= 4 + 4 * 2  # what was under way


async def test_equal_explanations_are_scored_once(
    run: Callable[..., Any], point_at: Callable[..., None], units_of: Callable[..., Units], tmp_path: Path
) -> None:
    def answer(messages: Any, body: Mapping[str, Any]) -> Any:
        return "[explanation]: words" if body["model"] == "explainer" else by_keywords(messages, body)

    async with FakeProvider(answer) as provider:
        point_at(provider)
        outcome = await run(controls=["shuffled"])
    assert outcome.statuses == {"ok": 4 * 4}
    assert len(_of(tmp_path / "run", units_of(tmp_path / "run"), scorer=True)) == 4
    assert len(_bodies(provider, "judge")) == 4 * 2


async def test_the_journal_of_a_run_holds_what_was_sent_and_not_the_key(
    run: Callable[..., Any], point_at: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "sk-very-secret-0123456789")
    async with FakeProvider(key="sk-very-secret-0123456789") as provider:
        point_at(provider)
        await run()
        sent = {json.dumps(request.body, sort_keys=True) for request in provider.requests}
    kept = {json.dumps(reply.wire["body"], sort_keys=True) for reply in Journal(tmp_path / "run" / JOURNAL).replies()}
    assert kept == sent


async def test_the_lexical_control_is_the_baselines_rule_scored_as_the_arms_are(
    run: Callable[..., Any], point_at: Callable[..., None], units_of: Callable[..., Units], tmp_path: Path
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        outcome = await run(controls=["lexical"])
        asked = _bodies(provider, "judge")
    directory = tmp_path / "run"
    units = units_of(directory)
    told = _of(directory, units, control="lexical")
    assert set(told) == set(_of(directory, units))
    assert all(unit.result["rule"] for unit in told.values())
    # latent i fires on word i, and on nothing else
    assert all(f"w{latent}" in unit.result["text"] for latent, unit in told.items())
    # a judge that is a language model reads its words: two batches of each latent and arm
    assert outcome.statuses == {"ok": 4 * 4}
    texts = [json.dumps(body) for body in asked]
    for unit in told.values():
        assert sum(json.dumps(unit.result["text"])[1:-1] in text.replace("\\\\", "\\") for text in texts) == 2


async def test_an_equal_explanation_of_the_lexical_control_is_scored_once(
    run: Callable[..., Any], units_of: Callable[..., Units], tmp_path: Path
) -> None:
    lexical = [{"name": "lexical", "kind": "contexts", "model": "lexical/rules"}]
    judge = [{"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10}]
    await run(controls=["lexical"], explainer=lexical, scorer=judge)
    directory = tmp_path / "run"
    units = units_of(directory)
    own, told = (_of(directory, units, control=control) for control in (None, "lexical"))
    assert {n: unit.result["text"] for n, unit in own.items()} == {n: unit.result["text"] for n, unit in told.items()}
    assert {unit.key for unit in own.values()}.isdisjoint(unit.key for unit in told.values())
    assert len(_of(directory, units, scorer=True)) == 4
    assert len(units) == 4 * 3


async def test_where_the_lexical_baseline_finds_no_rule_it_is_a_failure(
    run: Callable[..., Any],
    units_of: Callable[..., Units],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # what it gives where no token that activates has text
    monkeypatch.setattr("harness.clients.providers.lexical.induce", lambda examples: None)
    lexical = [{"name": "a", "kind": "contexts", "model": "lexical/rules"}]
    judge = [{"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10}]
    outcome = await run(controls=["lexical"], explainer=lexical, scorer=judge)
    directory = tmp_path / "run"
    units = units_of(directory)
    told = _of(directory, units, control="lexical")
    assert {unit.status for unit in told.values()} == {"no_rule"}
    # nothing is scored of it; an explainer's words are scored, whatever they are
    assert {unit.status for unit in _of(directory, units).values()} == {"ok"}
    assert outcome.statuses == {"ok": 4 * 2, "no_rule": 4}
    line = load(directory).summary().set_index("arm").loc["lexical baseline"]
    assert (line["ok"], line["no_rule"], line["mean_at_chance"]) == (0, 4, 0.5)
