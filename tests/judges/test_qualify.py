"""Qualifying a judge end to end: known judges get the sheets that they deserve, and nothing is paid for twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import RunError, RunStopped, TaskError, UserError
from harness.judges.qualify import Candidate, default_directory, qualify, variants_of
from harness.judges.sheet import SHEET, Rate, Sheet, read_sheets
from harness.runs.directory import JOURNAL, held
from harness.runs.failpoints import VARIABLE
from harness.runs.journal import Journal
from harness.runs.running import conduct
from harness.runs.stop import Stop
from harness.task import load_task
from harness.testing import Answer, FakeProvider, Fault, Price, by_keywords
from harness.values import TokenLogprob, digest, seed_of

pytestmark = pytest.mark.anyio

FAKE = "openai-api/fake/judge"
NO_LOGPROBS = {"logprobs": False}
PRICE = {"price": {"input": 1.0, "output": 10.0}, **NO_LOGPROBS}
PROMPTS = 160  # two kinds, 20 sets, two askings, two batches of five


def prose_for(share: float) -> Callable[..., str]:
    """Answers of which about a share is prose; a question that is asked again after a prose answer gets prose again."""

    def answer(messages: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> str:
        asked = next(m for m in reversed(messages) if "Passage 1" in str(m["content"]) or "1:" in str(m["content"]))
        if seed_of("prose", str(asked["content"])) % 1000 < 1000 * share:
            return "The first of them, I should think."
        return by_keywords([m for m in messages if m is not messages[-1]] + [asked], body)

    return answer


def holds(rate: Rate, value: float) -> bool:
    return rate.low is not None and rate.high is not None and rate.low <= value <= rate.high


# judges without a language model


async def test_an_error_free_judge_is_always_right(tmp_path: Path) -> None:
    for sheet in await qualify(Candidate("truth/exact"), tmp_path):
        assert (sheet.tpr.share, sheet.fpr.share, sheet.parse.share) == (1.0, 0.0, 1.0)
        for told in (sheet.near_miss, sheet.wrong):
            assert (told.firing.share, told.silent.share) == (0.0, 0.0)
            assert told.holding.share in (1.0, None)
        assert sheet.flips is not None
        assert sheet.flips.share == 0.0
        assert sheet.qualified
        assert (sheet.items, sheet.asked, sheet.calls) == (200, 400, 80)


async def test_rates_fit_the_error_rates_of_the_judge_within_their_intervals(tmp_path: Path) -> None:
    settings = {"false_positive": 0.2, "false_negative": 0.2}
    held_by = []
    for name in ("one", "two", "three", "four", "five"):
        for sheet in await qualify(Candidate(f"truth/{name}", settings), tmp_path / name):
            wrong = [sheet.fpr, sheet.near_miss.firing, sheet.wrong.firing, sheet.near_miss.silent]
            held_by += [holds(sheet.tpr, 0.8), *(holds(rate, 0.2) for rate in wrong)]
    # 50 intervals of 95 %
    assert sum(held_by) >= 45


async def test_a_judge_that_errs_little_is_qualified(tmp_path: Path) -> None:
    sheets = await qualify(Candidate("truth/good", {"false_positive": 0.05, "false_negative": 0.05}), tmp_path)
    assert all(sheet.qualified for sheet in sheets)


async def test_malformed_replies_lower_the_parse_rate_as_told(tmp_path: Path) -> None:
    for sheet in await qualify(Candidate("truth/careless", {"malformed": 0.2, "refused": 0.1}), tmp_path):
        assert holds(sheet.parse, 0.7)
        assert set(sheet.failures) == {"unparsable", "refused"}
        assert sum(sheet.failures.values()) == sheet.parse.count - sheet.parse.found
        assert any("parse rate" in reason for reason in sheet.why_not)
        assert sheet.tpr.share == 1.0  # of what was answered


async def test_errors_that_depend_on_the_batch_are_flips(tmp_path: Path) -> None:
    settings = {"false_positive": 0.3, "false_negative": 0.3, "batch_correlation": 0.9}
    for sheet in await qualify(Candidate("truth/moody", settings), tmp_path):
        assert sheet.flips is not None
        assert sheet.flips.share is not None
        assert sheet.flips.share > 0.2
        assert any("change with the batch" in reason for reason in sheet.why_not)


async def test_a_passage_a_prompt_is_asked_about_once(tmp_path: Path) -> None:
    for sheet in await qualify(Candidate("truth/exact", batch=1), tmp_path):
        assert sheet.flips is None
        assert (sheet.asked, sheet.calls, sheet.parse.count) == (200, 200, 200)
        assert sheet.qualified


async def test_the_lexical_baseline_gives_probabilities_and_is_not_qualified(tmp_path: Path) -> None:
    for sheet in await qualify(Candidate("lexical/rules"), tmp_path):
        assert sheet.auroc is not None
        assert sheet.brier is not None
        assert 0 < sheet.brier < 1
        assert not sheet.qualified


async def test_every_judge_is_asked_the_same(tmp_path: Path) -> None:
    one = await qualify(Candidate("truth/exact"), tmp_path / "one")
    other = await qualify(Candidate("lexical/rules", batch=10, prompts={"fuzzing": "tiny"}), tmp_path / "other")
    assert [sheet.drawn for sheet in one] == [sheet.drawn for sheet in other]
    seeded = await qualify(Candidate("truth/exact", seed=1), tmp_path / "one")
    assert [sheet.drawn for sheet in seeded] != [sheet.drawn for sheet in one]


# judges behind a provider


async def test_both_protocols_are_asked_by_the_scorers_prompts(tmp_path: Path, point_at: Callable[..., None]) -> None:
    models = ("openai/gpt-4.1-mini", "anthropic/judge", FAKE)
    async with FakeProvider() as provider:
        point_at(provider)
        found = {
            model: await qualify(Candidate(model, {"price": PRICE["price"]}), tmp_path / model.replace("/", "-"))
            for model in models
        }
        paths = {request.path for request in provider.requests}
        assert paths == {"/v1/chat/completions", "/v1/messages"}
        fuzzing = sum("<<" in str(request.body["messages"][-1]) for request in provider.requests)
        assert fuzzing == len(models) * PROMPTS / 2
        dollars = sum(sheet.dollars or 0.0 for sheets in found.values() for sheet in sheets)
        # the probe of what nothing is known of is not the judge's work
        assert dollars == pytest.approx(provider.bill.dollars, rel=0.01)
    for model, sheets in found.items():
        for sheet in sheets:
            assert sheet.model == model
            assert sheet.calls == PROMPTS / 2
            assert sheet.parse.share == 1.0
            assert sheet.prompt_tokens > 1000
            # logprobs are asked for where the protocol has them
            assert (sheet.auroc is not None) == (not model.startswith("anthropic/"))


async def test_prose_lowers_the_parse_rate_by_as_many_prompts_as_got_it(
    tmp_path: Path, point_at: Callable[..., None]
) -> None:
    async with FakeProvider(prose_for(0.2)) as provider:
        point_at(provider)
        sheets = await qualify(Candidate(FAKE, NO_LOGPROBS), tmp_path)
        again = [request for request in provider.requests if "cannot be read" in str(request.body["messages"][-1])]
    # each unreadable reply was answered with what was wrong, once, and in vain
    failed = sum(sheet.failures["unparsable"] for sheet in sheets)
    assert len(again) == failed > 10
    assert sum(sheet.parse.found for sheet in sheets) == PROMPTS - failed
    assert sum(sheet.calls for sheet in sheets) == PROMPTS + failed
    assert not any(sheet.qualified for sheet in sheets)


async def test_probabilities_come_from_the_labels_logprobs(tmp_path: Path, point_at: Callable[..., None]) -> None:
    """A model that is always half sure has a Brier score of a quarter, and orders nothing."""

    def answer(messages: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> Answer:
        text = by_keywords(messages, body)
        half = (("1", -0.6932), ("0", -0.6932))
        tokens = tuple(TokenLogprob(c, -0.6932, half) if c in "01" else TokenLogprob(c, 0.0, ()) for c in text)
        return Answer(text, tokens)

    async with FakeProvider(answer) as provider:
        point_at(provider)
        for sheet in await qualify(Candidate(FAKE, {"logprobs": True}), tmp_path):
            assert sheet.brier == pytest.approx(0.25)
            assert sheet.auroc == pytest.approx(0.5)


async def test_a_finished_judge_is_not_asked_again_and_keeps_its_sheet(
    tmp_path: Path, point_at: Callable[..., None]
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        first = await qualify(Candidate(FAKE, NO_LOGPROBS), tmp_path)
        asked = len(provider.requests)
        (tmp_path / SHEET).unlink()
        with sqlite3.connect(tmp_path / JOURNAL) as journal:
            journal.execute("UPDATE attempts SET created = 1e9 + created / 1e9")
        journal.close()
        again = await qualify(Candidate(FAKE, NO_LOGPROBS), tmp_path)
        assert plain(again) == plain(first)
        assert {sheet.date for sheet in again} == {"2001-09-09T01:46:41+00:00"}  # when it was asked
        assert len(provider.requests) == asked == PROMPTS


async def test_other_prompts_get_sheets_of_their_own_beside_the_first(
    tmp_path: Path, point_at: Callable[..., None]
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        await qualify(Candidate(FAKE, NO_LOGPROBS), tmp_path)
        await qualify(Candidate(FAKE, NO_LOGPROBS, prompts={"detection": "tiny"}), tmp_path)
    sheets = read_sheets(tmp_path / SHEET)
    assert sorted((sheet.scorer, sheet.prompt) for sheet in sheets) == [
        ("detection", "default"),
        ("detection", "tiny"),
        ("fuzzing", "default"),
    ]


async def test_interrupted_and_asked_again_nothing_is_asked_twice(
    tmp_path: Path, point_at: Callable[..., None]
) -> None:
    stop = Stop()

    def answer(messages: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> str:
        if len(provider.requests) == 40:
            stop.wish()
        return by_keywords(messages, body)

    async with FakeProvider(answer) as provider:
        point_at(provider)
        with pytest.raises(RunStopped, match="interrupted"):
            await qualify(Candidate(FAKE, NO_LOGPROBS), tmp_path / "one", stop=stop)
        assert 40 <= len(provider.requests) < PROMPTS
        assert not (tmp_path / "one" / SHEET).exists()
        sheets = await qualify(Candidate(FAKE, NO_LOGPROBS), tmp_path / "one")
        assert len(provider.requests) == PROMPTS
        assert set(provider.counts.values()) == {1}
        assert plain(await qualify(Candidate(FAKE, NO_LOGPROBS), tmp_path / "two")) == plain(sheets)


def plain(sheets: Sequence[Sheet]) -> list[dict[str, Any]]:
    return [sheet.model_dump(exclude={"date"}) for sheet in sheets]


CHILD = """
import asyncio
from pathlib import Path
from harness.judges.qualify import Candidate, qualify
asyncio.run(qualify(Candidate("openai-api/fake/judge", {"logprobs": False}), Path("judge")))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_killed_and_asked_again_no_committed_reply_is_asked_for(
    tmp_path: Path, point_at: Callable[..., None]
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        assert await _child(tmp_path, **{VARIABLE: "reply-committed:50"}) == -signal.SIGKILL
        kept, before = _committed(tmp_path / "judge"), len(provider.requests)
        assert 50 <= len(kept) < PROMPTS
        assert await _child(tmp_path) == 0
        asked = {request.digest for request in provider.requests[before:]}
        assert asked
        assert not asked & kept
        # what was in flight at a kill may be asked for again, nothing else
        assert len(provider.counts) == PROMPTS
        whole = await qualify(Candidate(FAKE, NO_LOGPROBS), tmp_path / "undisturbed")
    assert plain(read_sheets(tmp_path / "judge" / SHEET)) == plain(whole)


async def _child(folder: Path, **environment: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, cwd=folder, env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment}
    )
    return await process.wait()


def _committed(directory: Path) -> set[str]:
    journal = Journal(directory / JOURNAL)
    try:
        return {digest(reply.wire["body"]) for reply in journal.replies()}
    finally:
        journal.close()


async def test_a_limit_of_dollars_holds_and_a_higher_one_goes_on(tmp_path: Path, point_at: Callable[..., None]) -> None:
    async with FakeProvider(prices={"*": Price(input=1.0, output=10.0)}) as provider:
        point_at(provider)
        with pytest.raises(RunStopped, match="raise --spend to go on"):
            await qualify(Candidate(FAKE, PRICE, spend=0.02), tmp_path)
        assert 0 < provider.bill.dollars <= 0.02
        sheets = await qualify(Candidate(FAKE, PRICE, spend=5.0), tmp_path)
        assert set(provider.counts.values()) == {1}
        assert sum(sheet.dollars or 0.0 for sheet in sheets) == pytest.approx(provider.bill.dollars)


async def test_a_prompt_without_a_reply_makes_no_sheet_until_it_has_one(
    tmp_path: Path, point_at: Callable[..., None]
) -> None:
    async with FakeProvider(faults=[None, Fault("bad_request"), None, Fault("bad_request")]) as provider:  # type: ignore[list-item]  # None is no fault
        point_at(provider)
        with pytest.raises(RunStopped, match=r"2 prompts of detection got no reply \(bad_request\)"):
            await qualify(Candidate(FAKE, NO_LOGPROBS), tmp_path)
        assert not (tmp_path / SHEET).exists()
        sheets = await qualify(Candidate(FAKE, NO_LOGPROBS), tmp_path)
        assert len(provider.requests) == PROMPTS + 2
    assert all(sheet.failures == {} for sheet in sheets)


# mistakes


@pytest.mark.parametrize(
    ("candidate", "told"),
    [
        (Candidate("opnai/x"), 'there is no provider "opnai"; did you mean "openai"?'),
        (Candidate("truth/x", {"false_negativ": 0.1}), "did you mean false_negative?"),
        (Candidate("truth/x", prompts={"fuzzing": "defalt"}), 'fuzz has no prompt "defalt"; did you mean "default"?'),
        (Candidate("truth/x", logprobs=True), "truth/x gives no logprobs"),
        (Candidate(FAKE, NO_LOGPROBS, spend=1.0), "--spend: no price is known for openai-api/fake/judge"),
    ],
)
async def test_a_wrong_candidate_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidate: Candidate, told: str
) -> None:
    monkeypatch.setenv("FAKE_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(UserError) as error:
        await qualify(candidate, tmp_path / "judge")
    assert told in str(error.value)
    assert not (tmp_path / "judge").exists()


async def test_a_runs_directory_is_refused(tmp_path: Path, write_task: Callable[..., Path]) -> None:
    await conduct(load_task(write_task()), tmp_path / "run", limit=1)
    with pytest.raises(RunError, match="there is a run in this directory"):
        await qualify(Candidate("truth/x"), tmp_path / "run")


async def test_a_sheet_that_cannot_be_read_is_told_first(tmp_path: Path) -> None:
    (tmp_path / SHEET).write_text("{")
    with pytest.raises(RunError, match=SHEET):
        await qualify(Candidate("truth/x"), tmp_path)


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(RunError, match="in use by process"):
        await qualify(Candidate("truth/x"), tmp_path)


def test_prompts_are_for_both_scorers_or_for_one() -> None:
    assert variants_of([]) == {}
    assert variants_of(["tiny"]) == {"detection": "tiny", "fuzzing": "tiny"}
    assert variants_of(["fuzzing=./a=b.toml"]) == {"fuzzing": "./a=b.toml"}
    assert variants_of(["detection=x", "fuzzing=y"]) == {"detection": "x", "fuzzing": "y"}
    with pytest.raises(TaskError, match="--prompt tiny: fuzzing has the prompt y already"):
        variants_of(["fuzzing=y", "tiny"])


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai/gpt-5-mini", "judge-openai-gpt-5-mini"),
        ("local/../a b", "judge-local-..-a-b"),
        ("x/y:z", "judge-x-y-z"),
    ],
)
def test_the_directory_is_named_after_the_model(model: str, name: str) -> None:
    assert default_directory(model) == Path("runs") / name
