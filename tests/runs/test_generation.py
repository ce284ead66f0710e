"""Texts written for planted latents, from the task to the verdicts: right, resumed, foretold, shown and refused."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from harness.analysis.load import Run, load
from harness.clients.models import Models
from harness.errors import CoderError, TaskError
from harness.examples.draw import LatentExamples
from harness.resources import fixture
from harness.rules import load_concepts
from harness.runs.failpoints import VARIABLE
from harness.runs.plan import aplan
from harness.runs.progress import Silent
from harness.runs.running import check, conduct
from harness.runs.trying import attempt
from harness.runs.units import make_plan
from harness.subject.texts import SubjectTexts
from harness.task import Task, load_task
from harness.testing import Answer, FakeProvider, Received, by_keywords
from harness.values import digest

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
# because, months, weekdays, counts, kin, dayparts, adverbs, towns
LATENTS = (0, 15, 16, 19, 21, 46, 50, 40)
TRUE = {"name": "true", "kind": "file", "path": str(fixture("planted", "true.jsonl"))}
REMOTE = {"name": "generation", "kind": "generation", "model": "openai-api/fake/writer", "texts": 4, "batch": 2}


def scorer(**settings: Any) -> dict[str, Any]:
    return {"name": "generation", "kind": "generation", "model": "truth/writer", "texts": 15, **settings}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working directory, so that all runs here share one store."""
    return tmp_path_factory.mktemp("generation")


@pytest.fixture
def write(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a task on planted latents of the shipped text; keywords replace its tables, None leaves one out."""
    monkeypatch.chdir(folder)
    base: dict[str, Any] = {
        "name": "written",
        "subject": {
            "model": str(fixture("subject")),
            "corpus": {"path": str(fixture("text", "demo.jsonl")), "tokens": 40_960},
        },
        "coder": [{"name": "planted", "kind": "planted"}],
        "latents": {"ids": list(LATENTS), "min_examples": 30},
        "examples": {"scored": {"activating": 10, "non_activating": 10}},
        "explainer": [TRUE],
        "scorer": [scorer()],
    }

    def make(**tables: Any) -> Path:
        path = tmp_path / "task.toml"
        path.write_text(tomli_w.dumps({key: table for key, table in (base | tables).items() if table is not None}))
        return path

    return make


@pytest.fixture
def task(write: Callable[..., Path]) -> Callable[..., Task]:
    return lambda **tables: load_task(write(**tables))


def figures(run: Run, name: str, control: str | None = None) -> dict[int, float]:
    """A figure by latent."""
    return {
        row.latent: row.unit.result["metrics"][name]
        for row in run.score_rows()
        if row.arm.control == control and row.unit is not None and row.unit.status == "ok"
    }


async def test_true_explanations_score_near_one_and_swapped_or_withheld_ones_near_a_half(
    task: Callable[..., Task], tmp_path: Path
) -> None:
    outcome = await conduct(task(), tmp_path / "run")
    assert outcome.failures == {}
    run = load(tmp_path / "run")
    true, swapped, none = (figures(run, "balanced_accuracy", arm) for arm in (None, "shuffled", "none"))
    assert set(true) == set(swapped) == set(none) == set(LATENTS)
    assert np.mean(list(true.values())) > 0.98
    assert abs(np.mean(list(swapped.values())) - 0.5) < 0.1
    assert abs(np.mean(list(none.values())) - 0.5) < 0.1
    assert min(figures(run, "auroc").values()) > 0.95
    hits, alarms = figures(run, "hit_rate"), figures(run, "false_alarm_rate")
    assert {latent: (hits[latent] + 1 - alarms[latent]) / 2 for latent in true} == pytest.approx(true)
    assert all(0 < share < 1.5 for share in figures(run, "relative_maximum").values())
    table = run.scores()
    assert set(table["n_pos"]) == set(table["n_neg"]) == {15}
    assert set(table["rung"]) == {"random"}


async def test_verdicts_are_what_the_rules_say_of_the_texts(task: Callable[..., Task], tmp_path: Path) -> None:
    concept = load_concepts(fixture("concepts.json")).concepts[15].parsed
    examples, (made,) = await attempt(task(), 15, None, tmp_path / "try", Silent())
    assert isinstance(examples, LatentExamples)
    (judged,) = made.judged
    scored = judged.scored
    assert len(scored.examples) == len(scored.verdicts) == 30
    written = "\n".join(exchange.reply.text for exchange in judged.exchanges)
    for at, example in enumerate(scored.examples):
        assert example.passage.text in written
        strengths = concept.strengths(("", *example.passage.tokens))[1:]
        assert example.activations.tolist() == strengths.tolist()
        assert scored.verdicts.value[at] == strengths.max()
        assert bool(scored.verdicts.label[at]) == bool(strengths.any())
    shares = [float(example.activations.max()) / examples.maximum for example in scored.examples[:15]]
    assert scored.metrics["relative_maximum"] == pytest.approx(np.mean(shares))


async def test_an_author_who_errs_one_time_in_five_scores_four_fifths(
    task: Callable[..., Task], tmp_path: Path
) -> None:
    noisy = {"truth/writer": {"false_positive": 0.2, "false_negative": 0.2}}
    await conduct(task(model=noisy, scorer=[scorer(texts=60, batch=20)]), tmp_path / "run")
    found = figures(load(tmp_path / "run"), "balanced_accuracy")
    # 960 texts: a standard error of 0.013
    assert abs(np.mean(list(found.values())) - 0.8) < 0.04


async def test_the_lexical_baseline_writes_by_its_own_rules(task: Callable[..., Task], tmp_path: Path) -> None:
    lexical = {"name": "lexical", "kind": "contexts", "model": "lexical/rules"}
    writer = scorer(model="lexical/rules")
    await conduct(task(explainer=[lexical], scorer=[writer]), tmp_path / "run")
    run = load(tmp_path / "run")
    own, swapped = (np.mean(list(figures(run, "balanced_accuracy", arm).values())) for arm in (None, "shuffled"))
    assert own > 0.75
    assert abs(swapped - 0.5) < 0.1


async def test_a_finished_run_asks_for_nothing_and_loads_no_subject(
    task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results_of: Callable[[Path], set[Any]]
) -> None:
    await conduct(task(), tmp_path / "run")
    before = results_of(tmp_path / "run")

    async def never(*_: Any) -> Any:
        raise AssertionError("a text was read")

    monkeypatch.setattr(SubjectTexts, "read", never)
    await conduct(task(), tmp_path / "run")
    assert results_of(tmp_path / "run") == before


async def test_how_texts_are_read_is_in_the_keys_of_what_has_them_read_alone(
    task: Callable[..., Task], tmp_path: Path
) -> None:
    await conduct(task(scorer=[scorer(texts=1)], controls=[]), tmp_path / "run")
    store = {"path": load(tmp_path / "run").record["store"]["path"]}
    detection = {"name": "detection", "kind": "detection", "model": "truth/judge"}
    subject = task().model_dump(mode="json", exclude_none=True)["subject"]

    def keys(**changed: Any) -> list[str]:
        given = task(store=store, subject={**subject, **changed}, scorer=[scorer(), detection])
        plan = make_plan(given, Models(given.model, lambda client: client), "s")
        return [arm.digest for arm in plan.score_arms]

    plain, other = keys(), keys(context=128)
    assert keys(batch=5) == plain
    assert other[0] != plain[0]
    assert other[1] == plain[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_killed_run_goes_on_and_asks_for_no_text_twice(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results_of: Callable[[Path], set[Any]]
) -> None:
    path = write(
        scorer=[REMOTE], limits={"latents": 2, "requests": 4}, latents={"ids": [0, 15, 16], "min_examples": 30}
    )

    async def run(provider: FakeProvider, out: Path, **environment: str) -> int:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = "from harness.cli import main; main()"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, "run", str(path), "--out", str(out), "--no-report",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, told = await process.communicate()
        for name in environment:
            monkeypatch.delenv(name)
        assert process.returncode in (0, -signal.SIGKILL), told
        return int(process.returncode or 0)

    async with FakeProvider(by_keywords) as provider:
        assert await run(provider, tmp_path / "whole") == 0
        # two sides in two batches: of three explanations, which are also swapped, and of none for each latent's seed
        assert len(provider.requests) == (3 + 3 + 3) * 4
    wanted = results_of(tmp_path / "whole")
    async with FakeProvider(by_keywords) as provider:
        for point, count in (("reply-committed", 3), ("unit-committed", 4), ("reply-committed", 9)):
            assert await run(provider, tmp_path / "killed", **{VARIABLE: f"{point}:{count}"}) == -signal.SIGKILL
        assert await run(provider, tmp_path / "killed") == 0
        asked = Counter(request.digest for request in provider.requests)
    assert results_of(tmp_path / "killed") == wanted
    committed = {digest(reply.wire["body"]) for reply in load(tmp_path / "killed").journal.replies()}
    assert committed == set(asked)
    # what was in flight at a kill may be asked again; four can be
    assert sum(asked.values()) - len(asked) <= 3 * 4


async def test_replies_hold_the_texts_in_the_order_of_the_verdicts(
    task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeProvider(by_keywords) as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        await conduct(task(scorer=[REMOTE], controls=[]), tmp_path / "run")
    run = load(tmp_path / "run")
    for row in run.score_rows():
        assert row.unit is not None
        replies = [run.journal.reply(key) for key in row.unit.replies]
        texts = [line.partition(". ")[2] for kept in replies if kept for line in kept.reply.text.splitlines()]
        assert len(texts) == len(row.verdicts or ()) == 8
        assert [" about " in text for text in texts] == [True] * 4 + [False] * 4


async def test_a_writer_who_gives_too_few_texts_is_asked_once_more_and_counted(
    task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(messages: Any, body: Any) -> Answer:
        return Answer("1. There is only one.")

    async with FakeProvider(answer) as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        outcome = await conduct(task(scorer=[REMOTE], controls=[], latents={"ids": [15], "min_examples": 30}), tmp_path)
        assert Counter(len(request.body["messages"]) for request in provider.requests) == {10: 4, 12: 4}
    assert outcome.failures == {"unparsable": 1}
    (row,) = load(tmp_path).score_rows()
    assert row.verdicts is not None
    assert row.verdicts.failures() == {"unparsable": 8}


async def test_what_will_be_asked_is_foretold_without_reading_a_text(
    task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def received(request: Received) -> None:
        raise AssertionError("a request was sent")

    remote = task(scorer=[REMOTE], controls=["shuffled"])
    await conduct(task(scorer=[scorer(texts=1)], controls=[]), tmp_path / "collected")
    monkeypatch.setattr(SubjectTexts, "read", received)
    monkeypatch.setenv("FAKE_BASE_URL", "http://127.0.0.1:9/v1")
    forecast = await aplan(remote, tmp_path / "none")
    (line,) = [line for line in forecast.lines if line.stage == "score"]
    assert line.arm == "generation (random)"
    # every explanation is asked about once: of itself, and under another latent's seed
    assert round(line.calls.low) == len(LATENTS) * 2 * 4


async def test_without_a_subject_it_is_refused_by_name_before_anything_is_done(
    write: Callable[..., Path], words_store: Path
) -> None:
    path = write(subject=None, store={"path": str(words_store)}, coder=[{"name": "words", "kind": "planted"}])
    with pytest.raises(TaskError) as told:
        await check(load_task(path))
    assert str(told.value) == (
        f"{path}: scorer.generation: this kind has texts read by the subject, and the task has none: add the [subject] "
        "that the store was collected from, or leave it out"
    )


async def test_a_coder_that_the_store_alone_has_is_refused(task: Callable[..., Task], words_store: Path) -> None:
    given = task(store={"path": str(words_store)}, coder=[{"name": "words", "kind": "sae"}])
    with pytest.raises(
        TaskError, match=r"scorer\.generation: .* coder\.words, and a coder needs a hookpoint and a path"
    ):
        await check(given)
    given = task(store={"path": str(words_store)}, coder=[{"name": "words", "kind": "planted", "path": "none.json"}])
    with pytest.raises(CoderError, match=r"task\.toml: .*none\.json: cannot be read"):
        await check(given)


async def test_a_store_of_another_subject_is_refused(
    task: Callable[..., Task], words_store: Path, tmp_path: Path
) -> None:
    given = task(store={"path": str(words_store)}, coder=[{"name": "words", "kind": "planted"}], latents={"ids": [3]})
    with pytest.raises(Exception, match=r"task\.toml: subject: the store .* was collected from made"):
        await conduct(given, tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"texts": 0}, "texts"),
        ({"batch": 0}, "batch"),
        ({"text": 3}, "text"),
        ({"prompt": "defualt"}, 'generate has no prompt "defualt"; did you mean "default"'),
    ],
)
async def test_wrong_settings_are_told_with_the_scorers_name(
    task: Callable[..., Task], settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(Exception, match=rf"task\.toml: scorer\.generation.*{told}"):
        await check(task(scorer=[scorer(**settings)]))
