"""Skimming a journal: which latents are done is what looking up each unit says, and what is not done is done again."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from harness.analysis.load import load
from harness.runs.directory import JOURNAL
from harness.runs.outcomes import result_hash
from harness.runs.plan import aplan
from harness.runs.running import conduct
from harness.runs.skimming import FIXED, MISSING, STATUSES, Skimmed, skim
from harness.task import Task, load_task

LATENTS = 12


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, make_store: Callable[..., Any]) -> Task:
    """Two explainers, one of which says nothing of some latents, and controls: constant, shuffled, baseline."""
    place = tmp_path_factory.mktemp("skimming")
    store = make_store(place / "store", contexts=300)
    lines = [json.dumps({"latent": latent, "explanation": f'the word " w{latent}"'}) for latent in range(8)]
    (place / "mine.jsonl").write_text("\n".join(lines))
    made = {
        "name": "skimming",
        "store": {"path": str(store.path)},
        "coder": [{"name": "words", "kind": "planted"}],
        "latents": {"ids": list(range(LATENTS)), "min_examples": 20},
        "examples": {"shown": {"count": 5}, "scored": {"activating": 10, "non_activating": 10}},
        "explainer": [
            {"name": "mine", "kind": "file", "path": "mine.jsonl"},
            {"name": "rules", "kind": "contexts", "model": "lexical/rules"},
        ],
        "scorer": [{"name": "detection", "kind": "detection", "model": "lexical/rules"}],
        "controls": ["shuffled", "none", "generic", "lexical"],
    }
    (place / "task.toml").write_text(tomli_w.dumps(made))
    return load_task(place / "task.toml")


@pytest.fixture
def directory(task: Task, tmp_path: Path) -> Path:
    """A finished run of it."""
    asyncio.run(conduct(task, tmp_path / "run"))
    return tmp_path / "run"


def _units(directory: Path) -> dict[str, str]:
    with closing(load(directory)) as run:
        arms = {arm.digest for arm in (*run.arms, *run.scoring)}
        return {unit.key: result_hash(unit) for arm in arms for unit in run.journal.units(arm)}


def test_the_units_that_a_task_reaches_are_those_looked_up_one_by_one(directory: Path) -> None:
    with closing(load(directory)) as run:
        found = skim(run.journal, run.arms, run.scoring, run.latents)
        assert found is not None
        place = {index: at for at, index in enumerate(run.latents["words"])}
        for at, arm in enumerate(run.arms):
            told = {place[latent]: unit for one, latent, unit in run.explanation_units() if one == arm}
            for where, number in enumerate(found.explanations[at].tolist()):
                unit = told.get(where)
                if number == FIXED:
                    assert arm.control in ("none", "generic")
                elif number == MISSING:
                    assert unit is None
                else:
                    assert unit is not None
                    assert STATUSES[found.explanation_statuses[number]] == unit.status
                    assert found.explanation_pending[number] == unit.pending
        rows = {(row.arm, place[row.latent]): row for row in run.score_rows() if row.unit is not None}
        for (arm, _), numbers in found.scores.items():
            for where, number in enumerate(numbers.tolist()):
                row = rows.get((run.arms[arm], where))
                assert (number != MISSING) == (row is not None)
                if row is not None:
                    assert STATUSES[found.score_statuses[number]] == row.status


def test_a_finished_run_is_found_done_and_counted_as_before(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = asyncio.run(conduct(task, tmp_path / "run"))
    before = _units(tmp_path / "run")
    looked: list[str] = []
    monkeypatch.setattr(
        "harness.runs.conductor.Conductor._latent",
        lambda _, latent: looked.append(str(latent)) or asyncio.sleep(0),
    )
    again = asyncio.run(conduct(task, tmp_path / "run"))
    assert again.statuses == first.statuses
    assert _units(tmp_path / "run") == before
    # what a later run may still change: failures for a passing reason, and shuffled ones whose partner may come nearer
    with closing(load(tmp_path / "run")) as run:
        pending = {u.latent for arm in (*run.arms, *run.scoring) for u in run.journal.units(arm.digest) if u.pending}
    assert len(looked) == len(pending)
    assert len(pending) < LATENTS


@pytest.mark.parametrize("kept", [0, 1, 2, 7, 40])
def test_a_run_of_which_only_some_units_are_left_ends_in_the_same(task: Task, directory: Path, kept: int) -> None:
    before = _units(directory)
    with closing(sqlite3.connect(directory / JOURNAL)) as connection:
        some = "SELECT key FROM units ORDER BY rowid LIMIT ?"
        connection.execute(f"DELETE FROM units WHERE key NOT IN ({some})", [kept])
        connection.commit()
    asyncio.run(aplan(task, directory))
    asyncio.run(conduct(task, directory))
    assert _units(directory) == before


@pytest.mark.parametrize("kind", ["explanation", "score"])
def test_a_unit_that_is_missing_is_done_again(task: Task, directory: Path, kind: str) -> None:
    before = _units(directory)
    with closing(load(directory)) as run:
        arms = run.scoring if kind == "score" else [arm for arm in run.arms if arm.explainer == "rules"]
        gone = next(run.journal.units(arms[0].digest)).key
    with closing(sqlite3.connect(directory / JOURNAL)) as connection:
        connection.execute("DELETE FROM units WHERE key = ?", [bytes.fromhex(gone)])
        connection.commit()
    asyncio.run(conduct(task, directory))
    assert gone in _units(directory)
    assert _units(directory) == before


def test_failures_are_done_again_where_that_is_wished(directory: Path) -> None:
    with closing(load(directory)) as run:
        found = skim(run.journal, run.arms, run.scoring, run.latents)
        assert found is not None
        arms = [at for at, arm in enumerate(run.arms) if arm.explainer == "mine" and arm.control is None]
        failed = [latent not in range(8) for latent in run.latents["words"]]
        assert found.done(arms).done.all()
        assert found.done(arms, failed_again=True).done.tolist() == [not one for one in failed]
        counted = Counter(found.done(arms).statuses)
        assert sum(counted.values()) == LATENTS + 8
        assert counted["ok"] == 16


@pytest.mark.parametrize("kind", ["explanation", "score"])
def test_a_latent_with_a_unit_that_failed_for_a_passing_reason_is_not_done(directory: Path, kind: str) -> None:
    with closing(load(directory)) as run:
        arms = [at for at, arm in enumerate(run.arms) if arm.explainer == "rules" and arm.control is None]
        digest = run.scoring[0].digest if kind == "score" else run.arms[arms[0]].digest
        rows = {row.unit.key: row.latent for row in run.score_rows() if row.unit and row.arm == run.arms[arms[0]]}
        units = [unit for unit in run.journal.units(digest) if kind == "explanation" or unit.key in rows]
        passing = units[3]
        with closing(sqlite3.connect(directory / JOURNAL)) as connection:
            connection.execute("UPDATE units SET pending = 1 WHERE key = ?", [bytes.fromhex(passing.key)])
            connection.commit()
        found = skim(run.journal, run.arms, run.scoring, run.latents)
        assert found is not None
        wanted = [latent != passing.latent for latent in run.latents["words"]]
        assert found.done(arms).done.tolist() == wanted


def test_skimming_ends_where_it_is_told_to(directory: Path) -> None:
    with closing(load(directory)) as run:
        assert skim(run.journal, run.arms, run.scoring, run.latents, stopping=lambda: True) is None


def test_a_single_unit_beside_an_arm_that_has_none() -> None:
    explanations = (np.array([MISSING, 0]), np.array([FIXED, FIXED]))
    nothing = np.zeros(0, np.uint8)
    found = Skimmed(explanations, {}, np.zeros(1, np.uint8), np.zeros(1, bool), nothing, nothing.astype(bool))
    assert found.done([0, 1]).done.tolist() == [False, True]
