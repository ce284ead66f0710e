"""A sentence token by token: the latents that the subject's coders say are active, with what the run knows of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import Run, load
from harness.analysis.sentence import asentence, sentence
from harness.errors import RunError, UserError
from harness.report.sentence import sentence_tokens, write_sentence
from harness.resources import fixture
from harness.runs.running import conduct
from harness.subject.texts import SubjectTexts
from harness.task import load_task
from harness.values import Latent
from tests.running import PLANTED

TEXT = "In March she walked to the river, and in April he counted fifty pounds: <script>it's 9</script>."
TABLES: dict[str, Any] = PLANTED | {"latents": {"sample": 12, "min_examples": 40}}


@pytest.fixture
def run(write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    asyncio.run(conduct(load_task(write_task(**TABLES)), tmp_path / "out"))
    return load(tmp_path / "out")


def test_active_latents_are_those_that_reading_latent_by_latent_finds(run: Run) -> None:
    table = sentence(run, TEXT)
    assert "".join(dict(zip(table["position"], table["token"], strict=True)).values()) == TEXT
    task = load_task(run.record["source"])
    assert task.subject is not None
    subject = SubjectTexts(task.subject, task.coder, task.base)
    expected = {}
    for index in run.latents["planted"]:
        (read,) = asyncio.run(subject.read(Latent("planted", index), [TEXT]))
        expected |= {(at, index): float(value) for at, value in enumerate(read.activations) if value > 0}
    rows = [row for row in table.to_dict("records") if isinstance(row["coder"], str)]
    assert {(row["position"], row["latent"]): row["activation"] for row in rows} == pytest.approx(expected)
    assert expected
    real = [row for row in run.explanation_records() if row["control"] is None]
    words = {row["latent"]: row["text"] for row in real if row["explainer"] == "true"}
    largest = run.store().coder("planted").maximum
    scores = {
        row["latent"]: row["metrics"]["balanced_accuracy"]
        for row in run.score_records()
        if row["explainer"] == "true" and row["control"] is None
    }
    for row in rows:
        assert row["explanation"] == words[row["latent"]]
        assert row["detection"] == scores[row["latent"]]
        assert row["share"] == pytest.approx(row["activation"] / float(largest[row["latent"]]))
    # every token has a row, and the most active latents of each come first
    assert set(table["position"]) == set(range(table["position"].max() + 1))
    for at in set(table["position"]):
        shares = [row["share"] for row in rows if row["position"] == at]
        assert shares == sorted(shares, reverse=True)


def test_another_explainer_and_latents_without_an_explanation(run: Run) -> None:
    some = sentence(run, TEXT, "sibling")
    assert {row for row in some["explainer"] if isinstance(row, str)} == {"sibling"}
    every = sentence(run, TEXT, every=True)
    more = {row["latent"] for row in every.to_dict("records") if isinstance(row["coder"], str)}
    assert more > {row["latent"] for row in some.to_dict("records") if isinstance(row["coder"], str)}
    unexplained = next(token for token in sentence_tokens(every, run.scorers) if token.latents)
    assert unexplained.text


def test_it_works_where_a_loop_runs(run: Run) -> None:
    async def both() -> bool:
        return sentence(run, TEXT).equals(await asentence(run, TEXT))

    assert asyncio.run(both())


def test_a_page_of_it_is_text_alone(run: Run, tmp_path: Path) -> None:
    page = write_sentence(sentence(run, TEXT), run.scorers, "<script>alert(1)</script>", tmp_path / "new" / "s.html")
    written = page.read_text()
    assert "<script" not in written
    assert "default-src 'none'" in written
    assert "&lt;script&gt;alert(1)" in written


def test_mistakes_are_told(run: Run, write_task: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no explainer "nobody"; it has true, sibling'):
        sentence(run, TEXT, "nobody")
    with pytest.raises(UserError, match="no token"):
        sentence(run, "")
    asyncio.run(conduct(load_task(write_task("stored.toml")), tmp_path / "stored"))
    with pytest.raises(UserError, match=r"no \[subject\]"):
        sentence(load(tmp_path / "stored"), TEXT)


def test_the_run_directory_is_enough(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sentence(run, TEXT)
    Path(run.record["source"]).unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sentence(load(tmp_path / "out"), TEXT).equals(before)


def test_relative_paths_start_where_the_task_was(write_task: Callable[..., Path], tmp_path: Path) -> None:
    subject = {**TABLES["subject"], "model": "subject"}
    (tmp_path / "folder").mkdir()
    task = write_task("folder/t.toml", **{**TABLES, "subject": subject})
    (task.parent / "subject").symlink_to(fixture("subject"))
    asyncio.run(conduct(load_task(task), tmp_path / "out"))
    task.unlink()
    assert len(sentence(load(tmp_path / "out"), TEXT))
    (task.parent / "subject").unlink()
    with pytest.raises(UserError, match=re.escape(f"{task.parent / 'subject'}")):
        sentence(load(tmp_path / "out"), TEXT)


def test_a_run_that_does_not_tell_its_folder_is_that_of_its_file(run: Run) -> None:
    record = {key: value for key, value in run.record.items() if key != "base"}
    older = load(run.path)
    older.task = replace(older.task, record=record)
    assert len(sentence(older, TEXT))
    Path(run.record["source"]).unlink()
    with pytest.raises(RunError, match="relative paths start from its folder"):
        sentence(older, TEXT)
