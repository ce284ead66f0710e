"""A run with texts that were written: the report and the table of texts show them, and the command tells them."""

from __future__ import annotations

import asyncio

import pytest
import tomli_w

from harness.analysis.load import Run, load
from harness.cli.attempt import print_attempt
from harness.report import gather, render
from harness.report.evidence import Arm, ScoredExample
from harness.resources import fixture
from harness.runs.progress import Silent
from harness.runs.running import conduct
from harness.runs.trying import attempt
from harness.task import Task, load_task

MONTHS, COUNTS = 15, 19


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("written")
    subject = {
        "model": str(fixture("subject")),
        "corpus": {"path": str(fixture("text", "demo.jsonl")), "tokens": 20_480},
    }
    # latent 19 has a sentence that the judge does not know
    (folder / "said.jsonl").write_text(
        '{"latent": 15, "explanation": "The name of a month."}\n{"latent": 19, "explanation": "Who knows what."}\n'
    )
    (path := folder / "task.toml").write_text(
        tomli_w.dumps(
            {
                "name": "written",
                "subject": subject,
                "coder": [{"name": "planted", "kind": "planted"}],
                "latents": {"ids": [MONTHS, COUNTS], "min_examples": 20},
                "examples": {"scored": {"activating": 10, "non_activating": 10}},
                "explainer": [{"name": "said", "kind": "file", "path": "said.jsonl"}],
                "scorer": [
                    {"name": "writing", "kind": "generation", "model": "truth/writer", "texts": 6},
                    {"name": "detection", "kind": "detection", "model": "truth/judge"},
                ],
                "controls": ["none"],
            }
        )
    )
    return load_task(path)


@pytest.fixture
def here(task: Task, monkeypatch: pytest.MonkeyPatch) -> Task:
    """The task, in the directory that has its store."""
    monkeypatch.chdir(task.base)
    return task


@pytest.fixture
def run(here: Task) -> Run:
    asyncio.run(conduct(here, here.base / "run"))
    return load(here.base / "run")


def test_the_table_of_texts_has_a_row_for_each_that_was_asked_for(run: Run) -> None:
    table = run.texts()
    assert len(table) == 2 * 2 * 12
    months = table[(table["latent"] == MONTHS) & (table["explainer"] == "said")]
    assert months["activating"].tolist() == [True] * 6 + [False] * 6
    assert months["fired"].tolist() == months["activating"].tolist()
    assert (months["activation"] > 0).tolist() == months["fired"].tolist()
    lost = table[(table["latent"] == COUNTS) & (table["explainer"] == "said")]
    assert set(lost["failure"]) == {"unparsable"}
    assert lost["text"].isna().all()
    assert table[table["control"] == "none"]["failure"].isna().all()


def test_the_report_shows_each_text_with_what_the_latent_did(run: Run) -> None:
    data = gather(run)
    latent = next(latent for latent in data.latents if latent.latent.index == MONTHS)
    written = [example for example in latent.scored if example.rung == "written"]
    table = run.texts()
    table = table[table["latent"] == MONTHS]
    assert {("".join(example.pieces), example.truth) for example in written} == set(
        zip(table["text"], table["activating"], strict=True)
    )
    own = [example for example in written if _said(example, Arm("said"))]
    assert len(own) == 12
    for example in own:
        row = table[(table["explainer"] == "said") & (table["text"] == "".join(example.pieces))].iloc[0]
        assert example.activations.max() == pytest.approx(row["activation"], rel=1e-4)
        assert [verdict.label for verdict in example.verdicts] == [int(row["fired"])]
    fired = next(example for example in own if example.truth)
    assert any(piece.strip() for piece, value in zip(fired.pieces, fired.activations, strict=True) if value > 0)
    # windows stand beside them, with their own verdicts
    assert {example.rung for example in latent.scored} == {"random", "written"}
    line = next(line for line in latent.scores if line.scorer == "writing" and line.arm == Arm("said"))
    assert (line.n_pos, line.n_neg, line.metrics["hit_rate"]) == (6, 6, 1.0)
    assert line.interval is not None
    assert not [curve for curve in data.curves if curve.scorer == "writing"]
    assert "<html" in render(data)


def test_a_metric_of_activations_above_one_has_an_interval(run: Run) -> None:
    from harness.report.latents import _own_interval

    row = next(r for r in run.score_rows() if r.latent == MONTHS and r.scoring.scorer == "writing" and r.arm.explainer)
    assert row.verdicts is not None
    assert row.verdicts.value.max() > 1
    for metric in ("balanced_accuracy", "auroc"):
        assert _own_interval(row.verdicts, metric, 0) is not None


def test_try_prints_prompts_texts_and_activations(here: Task, capsys: pytest.CaptureFixture[str]) -> None:
    made = asyncio.run(attempt(here, MONTHS, None, here.base / "try", Silent()))
    print_attempt(*made, windows=12, prompts=2)
    told = capsys.readouterr().out
    part = told.split("scorer writing")[1].split("scorer detection")[0]
    flat = " ".join(part.split())
    assert flat.count("Description: The name of a month.") == 2
    assert "Write 6 texts in which the feature should respond somewhere." in flat
    assert "hit rate 1.00, false alarm rate 0.00" in flat
    scored = made[1][0].judged[0].scored
    for example, value in zip(scored.examples, scored.verdicts.value.tolist(), strict=True):
        # once in a reply, once with its verdict
        assert flat.count(" ".join(example.passage.text.split())) >= 2
        assert f"right {value:.3g} " in flat


def _said(example: ScoredExample, arm: Arm) -> bool:
    return any(verdict.arm == arm for verdict in example.verdicts)
