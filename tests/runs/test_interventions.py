"""Interventions from the task to the scores: made once, resumed, foretold, refused where they cannot be had."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from harness.analysis.load import Run, load
from harness.errors import CoderError, HookpointError, TaskError, UserError
from harness.examples.cuts import Cuts
from harness.resources import fixture
from harness.runs.failpoints import VARIABLE
from harness.runs.journal import Journal
from harness.runs.plan import aplan
from harness.runs.progress import Silent
from harness.runs.running import check, conduct
from harness.runs.trying import attempt
from harness.scorers.verdicts import NOWHERE
from harness.subject.intervene import Intervening
from harness.subject.intervened import Intervened
from harness.subject.steer import Steering
from harness.subject.texts import SubjectTexts
from harness.subject.tracing import Traced, Write
from harness.task import Task, load_task
from harness.testing import FakeProvider

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
LATENTS = (659, 2330, 2451)
TARGETS = (0.33, 1.0)
LOCAL = f"local/{fixture('subject')}"
SMALL = {"targets": list(TARGETS), "explain": 3, "select": 3, "score": 6, "minimum": 2, "top": 4, "tokens": 4}


def explainer(kl: float = 1.0, **settings: Any) -> dict[str, Any]:
    return {"name": f"effect-{kl:g}", "kind": "intervention", "model": "lexical/rules", "kl": kl, **settings}


def scorer(kl: float = 1.0, **settings: Any) -> dict[str, Any]:
    return {
        "name": f"judge-{kl:g}", "kind": "intervention", "model": "lexical/rules", "mode": "judge", "kl": kl,
        **settings,
    }  # fmt: skip


BY_NATS = scorer(1.0, name="nats-1", mode="logprobs", model=LOCAL, prompt="tiny", explainers=["effect-1"])
ARMS = {
    "explainer": [explainer(0.33), explainer(1.0), {"name": "contexts", "kind": "contexts", "model": "lexical/rules"}],
    "scorer": [
        scorer(0.33, explainers=["effect-0.33"]),
        scorer(1.0, explainers=["effect-1", "contexts"]),
        BY_NATS,
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working directory, so that all runs here share their stores."""
    return tmp_path_factory.mktemp("interventions")


@pytest.fixture
def write(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a task on the shipped subject and SAE; keywords replace its tables, None leaves one out."""
    monkeypatch.chdir(folder)
    base: dict[str, Any] = {
        "name": "changed",
        "subject": {
            "model": str(fixture("subject")),
            "corpus": {"path": str(fixture("text", "demo.jsonl")), "tokens": 40_960},
            "threads": 1,
        },
        "coder": [{"name": "sae", "hookpoint": "model.layers.1", "path": str(fixture("subject", "sae"))}],
        "latents": {"ids": list(LATENTS), "min_examples": 30},
        "examples": {"scored": {"activating": 10, "non_activating": 10}},
        "interventions": SMALL,
        "model": {LOCAL: {"threads": 1}},
        **ARMS,
    }

    def make(**tables: Any) -> Path:
        path = tmp_path / "task.toml"
        path.write_text(tomli_w.dumps({key: table for key, table in (base | tables).items() if table is not None}))
        return path

    return make


@pytest.fixture
def task(write: Callable[..., Path]) -> Callable[..., Task]:
    return lambda **tables: load_task(write(**tables))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The latents that the subject changed, in order."""
    found: list[int] = []
    plain = Intervening.intervene

    def noted(self: Intervening, latent: int, prompts: Cuts, seed: int) -> list[Intervened]:
        found.append(latent)
        return plain(self, latent, prompts, seed)

    monkeypatch.setattr(Intervening, "intervene", noted)
    return found


def changed(run: Path) -> dict[int, tuple[Intervened, ...]]:
    """What the journal says that the subject did, by latent of the SAE."""
    journal = Journal(run / "journal.sqlite")
    arms = [arm for arm, told in journal.arms().items() if told.get("interventions") == "sae"]
    units = [unit for arm in arms for unit in journal.units(arm)]
    journal.close()
    return {unit.latent: tuple(map(Intervened.from_json, unit.result["targets"])) for unit in units}


def figures(run: Run, scorer: str, name: str, control: str | None = None) -> dict[int, Any]:
    return {
        row.latent: row.unit.result["metrics"][name]
        for row in run.score_rows()
        if (row.scoring.scorer, row.arm.control) == (scorer, control)
        and row.arm.explainer != "contexts"
        and row.unit is not None
        and row.status == "ok"
    }


async def test_each_latent_and_kl_has_an_explanation_and_scores_of_its_own(
    task: Callable[..., Task], tmp_path: Path, made: list[int]
) -> None:
    outcome = await conduct(task(), tmp_path)
    assert outcome.failures == {}
    # whoever asks first has it made, for all explainers and scorers
    assert sorted(made) == sorted(LATENTS)
    run, found = load(tmp_path), changed(tmp_path)
    texts = {(arm.explainer, latent): unit.result["text"] for arm, latent, unit in run.explanation_units() if unit}
    assert all(texts["effect-0.33", latent] != texts["effect-1", latent] for latent in LATENTS)
    for latent, (weak, strong) in found.items():
        assert [one.calibration.target for one in (weak, strong)] == list(TARGETS)
        for name, one in (("judge-0.33", weak), ("judge-1", strong), ("nats-1", strong)):
            told = {key: figures(run, name, key)[latent] for key in ("target", "kl", "strength", "status")}
            assert told == {key: getattr(one.calibration, key) for key in ("target", "kl", "strength", "status")}, name
    for row in run.score_rows():
        assert row.verdicts is not None
        assert row.unit is not None
        pairs = found[row.latent][TARGETS.index(1.0)].score
        assert set(row.verdicts.context.tolist()) == {NOWHERE}
        assert all(pair.place is not None for pair in pairs)
        assert row.verdicts.quantile.tolist() == [pair.quantile for pair in pairs]
        if row.scoring.scorer == "nats-1":
            assert row.unit.result["metrics"]["nats"] == pytest.approx(row.verdicts.value.mean(), rel=1e-5)
        else:
            right = (row.verdicts.label == row.verdicts.truth).mean()
            assert row.unit.result["metrics"]["accuracy"] == pytest.approx(right)
    # nothing is asked with the words withheld
    assert set(figures_of_none(run)) == {0.0}
    assert {"effect-1", "effect-0.33", "contexts"} == {row.arm.explainer for row in run.score_rows()} - {None}
    assert not run.figures().empty
    run.close()


def figures_of_none(run: Run) -> list[float]:
    return [
        row.unit.result["metrics"]["nats"]
        for row in run.score_rows()
        if row.arm.control == "none" and row.scoring.scorer == "nats-1" and row.unit is not None
    ]


async def test_prompts_to_explain_choose_and_score_by_are_unlike(
    task: Callable[..., Task], tmp_path: Path, made: list[int]
) -> None:
    await conduct(task(), tmp_path)
    assert made
    for weak, strong in changed(tmp_path).values():
        parts = [
            {rise.text for rise in strong.rises},
            *({p.prompt for p in part} for part in (strong.select, strong.score)),
        ]
        assert len(set.union(*(set(map(str, part)) for part in parts))) == sum(map(len, parts))
        assert [pair.clean for pair in weak.score] == [pair.clean for pair in strong.score]


async def test_a_finished_run_changes_nothing_again_and_another_arm_takes_what_is_there(
    task: Callable[..., Task],
    tmp_path: Path,
    made: list[int],
    results_of: Callable[[Path], set[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await conduct(task(), tmp_path)
    before = results_of(tmp_path)
    made.clear()
    more = [*ARMS["explainer"], explainer(1.0, name="direction", inputs="unembedding")]
    await conduct(task(explainer=more), tmp_path)
    assert made == []
    assert before < results_of(tmp_path)

    async def never(*_: Any) -> Any:
        raise AssertionError("the subject was loaded")

    monkeypatch.setattr(SubjectTexts, "call", never)
    assert (await conduct(task(explainer=more), tmp_path)).failures == {}
    assert before < results_of(tmp_path)


async def test_the_candidate_is_taken_that_the_pairs_to_choose_by_favour(
    task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(messages: Any, body: Any) -> str:
        asked.append(str(messages[-1]["content"]))
        return f'[explanation]: more of "{(" and", " the", " of", ",")[len(asked) % 4]}"'

    writer = explainer(model="openai-api/fake/writer", candidates=4, by="lexical/rules", mode="judge")
    async with FakeProvider(answer) as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        await conduct(task(explainer=[writer], scorer=[scorer()], controls=[]), tmp_path)
    assert len(asked) == 4 * len(LATENTS)
    assert all("Likelier:" in text for text in asked)
    run, found = load(tmp_path), changed(tmp_path)
    for _, latent, unit in run.explanation_units():
        assert unit is not None
        tried = dict(unit.result["notes"]["candidates"])
        assert len(tried) == 4
        assert tried[unit.result["text"]] == max(tried.values())
        assert unit.result["notes"]["strength"] == found[latent][1].calibration.strength
        prompts = [text for text in asked if str(found[latent][1].rises[0].text) in text.replace("\\n", "\n")]
        assert len(prompts) == 4
        # nothing of what it is chosen or scored by is shown
        hidden = [pair.prompt for part in (found[latent][1].select, found[latent][1].score) for pair in part]
        assert not any(text in prompts[0] for text in hidden if len(text) > 40)
    run.close()


@pytest.mark.parametrize("inputs", ["change", "unembedding"])
async def test_inputs_without_texts_are_tokens_promoted_and_suppressed(
    task: Callable[..., Task], tmp_path: Path, inputs: str
) -> None:
    given = task(explainer=[explainer(inputs=inputs)], scorer=[scorer()])
    _, (tried,) = await attempt(given, LATENTS[0], None, tmp_path, Silent())
    (exchange,) = tried.exchanges
    content = exchange.request.messages[-1].content
    assert content.startswith('Promoted: "')
    assert content.partition("\n")[2].startswith('Suppressed: "')
    assert tried.explained.notes["target"] == 1.0
    assert len(tried.judged) == 1


@pytest.mark.slow
async def test_a_killed_run_goes_on_and_changes_no_latent_twice(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results_of: Callable[[Path], set[Any]]
) -> None:
    # logprobs of a local model are equal but for rounding: its batches are what is asked at a time
    path = write(limits={"latents": 1}, scorer=ARMS["scorer"][:2])

    async def run(out: Path, failpoint: str = "") -> int:
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "from harness.cli import main; main()",
            "run", str(path), "--out", str(out), "--no-report",
            env={**os.environ, **({VARIABLE: failpoint} if failpoint else {})},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, told = await process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), told
        return int(process.returncode or 0)

    def committed() -> dict[bytes, float]:
        connection = sqlite3.connect(tmp_path / "killed" / "journal.sqlite")
        rows = connection.execute("SELECT key, created FROM units").fetchall()
        connection.close()
        return dict(rows)

    assert await run(tmp_path / "whole") == 0
    for count in (1, 8):
        before = committed() if (tmp_path / "killed").is_dir() else {}
        assert await run(tmp_path / "killed", f"unit-committed:{count}") == -signal.SIGKILL
        assert before.items() <= committed().items()
    before = committed()
    # the first unit of all is what a latent does
    assert len(before) >= 9
    assert await run(tmp_path / "killed") == 0
    assert before.items() <= committed().items()
    assert results_of(tmp_path / "killed") == results_of(tmp_path / "whole")


async def test_what_will_be_asked_is_foretold_without_changing_a_latent(
    task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: list[int]
) -> None:
    given = task(
        explainer=[explainer(model="openai-api/fake/writer", candidates=2, by="openai-api/fake/judge", mode="judge")],
        scorer=[scorer(model="openai-api/fake/judge"), scorer(0.33, explainers=["effect-1"])],
        controls=["shuffled"],
        model={f"openai-api/fake/{name}": {"logprobs": True} for name in ("writer", "judge")},
    )
    # collected by others
    await conduct(task(scorer=[{"name": "d", "kind": "detection", "model": "lexical/rules"}], controls=[],
                       explainer=[ARMS["explainer"][2]], interventions=None), tmp_path / "collected")  # fmt: skip
    made.clear()
    monkeypatch.setenv("FAKE_BASE_URL", "http://127.0.0.1:9/v1")
    forecast = await aplan(given, tmp_path / "none")
    assert made == []
    calls = {(line.stage, line.model.rpartition("/")[2]): round(line.calls.low) for line in forecast.lines}
    # two candidates, each asked of three pairs; six pairs under its own and under another latent's explanation
    assert calls["explain", "writer"] == 2 * len(LATENTS)
    assert calls["explain", "judge"] == 2 * 3 * len(LATENTS)
    assert calls["score", "judge"] == 2 * 6 * len(LATENTS)


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"interventions": None}, r"explainer\.effect-1: this kind .*: add the table \[interventions\]$"),
        ({"explainer": [explainer(0.5)]}, r"explainer\.effect-0\.5: kl: 0\.5 is none of .*targets: 0\.33, 1"),
        ({"scorer": [scorer(2.0)]}, r"scorer\.judge-2: kl: 2 is none of interventions\.targets: 0\.33, 1"),
        ({"explainer": [explainer(by="lexical/rules", mode="judge")], "interventions": SMALL | {"select": 0}},
         r"explainer\.effect-1: by: interventions\.select is 0, so there is nothing to choose by"),
        ({"explainer": [explainer(candidates=3)]}, r'explainer\.effect-1.*: candidates are chosen among by a model'),
        ({"explainer": [explainer(kl=0.0)]}, r"explainer\.effect-0: kl: input should be greater than 0"),
        ({"explainer": [explainer(inputs="all")]}, r"explainer\.effect-1: inputs: input should be 'activating'"),
        ({"scorer": [scorer(mode="logprobs")]}, r"judge-1: lexical/rules gives no logprobs of prompts; take a base"),
        ({"interventions": SMALL | {"window": 256, "tokens": 800}},
         r"interventions\.window: a prompt of 256 tokens with a BOS and 800 new ones is more than the 1024 positions"),
    ],
)  # fmt: skip
async def test_what_cannot_be_had_is_told_before_anything_is_done(
    task: Callable[..., Task], tables: dict[str, Any], told: str
) -> None:
    one = {"explainer": [explainer()], "scorer": [scorer()]}
    with pytest.raises(UserError, match=rf"task\.toml: {told}"):
        await check(task(**(one | tables)))


async def test_a_coder_without_decoder_is_refused_by_name(task: Callable[..., Task]) -> None:
    given = task(coder=[{"name": "planted", "kind": "planted"}], explainer=[explainer()], scorer=[scorer()])
    with pytest.raises(CoderError, match=r'task\.toml: explainer\.effect-1: coder "planted" has no decoder'):
        await check(given)


async def test_without_a_subject_it_is_refused(write: Callable[..., Path], words_store: Path) -> None:
    store = {"path": str(words_store)}
    path = write(subject=None, interventions=None, store=store, explainer=[explainer()], scorer=[scorer()])
    with pytest.raises(TaskError, match=r"explainer\.effect-1: .* the task has none: add the \[subject\]"):
        await check(load_task(path))


async def test_a_hookpoint_that_cannot_be_written_back_ends_the_run_with_a_sentence(
    task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units_of: Callable[[Path], Any]
) -> None:
    plain = Traced.step

    def read_only(self: Traced, *given: Any, write: Write | None = None, **more: Any) -> Any:
        if write is not None:
            raise TypeError("'tuple' object does not support item assignment")
        return plain(self, *given, **more)

    monkeypatch.setattr(Traced, "step", read_only)
    with pytest.raises(HookpointError, match=r'^hookpoint "model\.layers\.1": what it holds cannot be written back$'):
        await conduct(task(), tmp_path)
    # no latent is marked as done that was not changed
    assert not any("targets" in unit.result for unit in units_of(tmp_path).values())


async def test_logits_that_are_no_numbers_are_a_status_and_no_crash(
    task: Callable[..., Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    plain = Steering.direction

    def endless(self: Steering, latent: int) -> torch.Tensor:
        return plain(self, latent) * (torch.inf if latent == LATENTS[0] else 1.0)

    monkeypatch.setattr(Steering, "direction", endless)
    outcome = await conduct(task(controls=[]), tmp_path)
    assert outcome.failures == {}
    run = load(tmp_path)
    statuses = figures(run, "judge-1", "status")
    assert statuses[LATENTS[0]] == "nonfinite"
    assert set(statuses.values()) == {"nonfinite", "ok"}
    assert figures(run, "judge-1", "kl")[LATENTS[0]] is None
    assert all(np.isfinite(value) for value in figures(run, "nats-1", "nats").values())
    run.close()


async def test_too_few_prompts_are_a_failure_that_is_counted(task: Callable[..., Task], tmp_path: Path) -> None:
    short = SMALL | {"window": 256, "score": 300, "minimum": 299}
    outcome = await conduct(task(interventions=short), tmp_path)
    # two explanations and their swaps a latent, and what is scored without them
    assert set(outcome.failures) <= {"too_few_examples", "no_partner"}
    (row,) = [
        row
        for row in load(tmp_path).score_rows()
        if (row.arm.explainer, row.arm.control, row.latent) == ("contexts", None, LATENTS[0])
    ]
    assert row.status == "too_few_examples"


async def test_a_scoring_model_too_small_for_a_passage_is_a_failure(task: Callable[..., Task], tmp_path: Path) -> None:
    small = {LOCAL: {"threads": 1, "context": 64}}
    given = task(explainer=[explainer()], scorer=[BY_NATS], controls=[], model=small)
    await conduct(given, tmp_path)
    rows = list(load(tmp_path).score_rows())
    assert rows
    assert all(row.verdicts is not None and row.verdicts.failures().total() for row in rows)


async def test_units_of_trials_are_taken_from_the_journal_and_never_written(
    task: Callable[..., Task], tmp_path: Path, made: list[int]
) -> None:
    given = task(explainer=[explainer()], scorer=[scorer()])
    await attempt(given, LATENTS[1], None, tmp_path, Silent())
    assert made == [LATENTS[1]]
    assert changed(tmp_path) == {}
    await conduct(given, tmp_path)
    made.clear()
    _, (tried,) = await attempt(given, LATENTS[1], None, tmp_path, Silent())
    assert made == []
    assert tried.explained.notes["strength"] == changed(tmp_path)[LATENTS[1]][1].calibration.strength
