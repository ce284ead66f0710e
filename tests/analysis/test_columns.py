"""Columns: tables of large runs out of them are those made unit by unit; what is stale or broken is not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w

from harness.analysis import columns as kept
from harness.analysis import load as loading
from harness.analysis.analyse import analyse
from harness.analysis.columns import FOLDER
from harness.analysis.load import Run, load
from harness.runs.journal import Journal
from harness.runs.running import conduct
from harness.task import load_task

TABLES = ("arms", "differences", "layers", "quantiles", "correlations", "costs", "reliabilities", "calibration")


SCORERS = [
    {"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10},
    {"name": "fuzzing", "kind": "fuzzing", "model": "lexical/rules", "batch": 10, "explainers": ["rules"]},
    {"name": "simulation", "kind": "simulation", "model": "lexical/rules"},
    {"name": "intruder", "kind": "intruder", "model": "lexical/rules"},
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, make_store: Callable[..., Any]) -> Path:
    """A run of two explainers with controls, with scorers of labels, strengths and choices, and some failures."""
    place = tmp_path_factory.mktemp("columns")
    store = make_store(place / "store", contexts=400, latents=24, words=[f"w{number}" for number in range(200)])
    said = [f'the word " w{latent}"' if latent % 3 else f'" w{latent + 1}"' for latent in range(20)]
    lines = [json.dumps({"latent": latent, "explanation": words}) for latent, words in enumerate(said)]
    (place / "mine.jsonl").write_text("\n".join(lines))
    task = {
        "name": "columns",
        "store": {"path": str(store.path)},
        "coder": [{"name": "words", "kind": "planted", "hookpoint": "model.layers.7.mlp"}],
        "latents": {"ids": list(range(24)), "min_examples": 50},
        "examples": {"scored": {"activating": 10, "non_activating": 10, "rungs": ["random", "cooccurring"]}},
        "explainer": [
            {"name": "mine", "kind": "file", "path": "mine.jsonl"},
            {"name": "rules", "kind": "contexts", "model": "lexical/rules"},
        ],
        "scorer": SCORERS,
    }
    (place / "task.toml").write_text(tomli_w.dumps(task))
    asyncio.run(conduct(load_task(place / "task.toml"), place / "run"))
    return place / "run"


@pytest.fixture
def large(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """The same run, taken for one of very many latents."""
    monkeypatch.setattr(loading, "MANY", 10)
    run = load(directory)
    assert run.large
    yield run
    run.close()


@pytest.mark.parametrize("table", TABLES)
def test_tables_of_a_large_run_are_those_made_unit_by_unit(
    directory: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = analyse(directory, table=table)
    monkeypatch.setattr(loading, "MANY", 10)
    monkeypatch.setattr("harness.analysis.correlations.MANY_ROWS", 10)
    pd.testing.assert_frame_equal(analyse(directory, table=table), plain, check_dtype=False, rtol=1e-9)


def test_score_frame_of_a_large_run_has_the_rows_of_scores(large: Run) -> None:
    plain, made = large.scores(), large.score_frame(["balanced_accuracy", "auroc"])
    same = [name for name in made.columns if not name.startswith("metric_")]
    pd.testing.assert_frame_equal(
        made[same].astype(object).where(made[same].notna(), None),
        plain[same].astype(object).where(plain[same].notna(), None),
        check_dtype=False,
    )
    for metric in ("balanced_accuracy", "auroc"):
        wanted = [np.nan if (value := told.get(metric)) is None else value for told in plain["metrics"]]
        np.testing.assert_array_equal(made[f"metric_{metric}"], wanted)


def test_columns_are_made_once_and_read_after_that(large: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = large.columns
    monkeypatch.setattr(kept, "_made", lambda run: pytest.fail("made again"))
    again = kept.columns(large)
    assert again.metrics == first.metrics
    np.testing.assert_array_equal(again["score/right"], first["score/right"])


def test_columns_of_a_journal_that_was_written_since_are_made_again(directory: Path, large: Run) -> None:
    assert large.columns.metrics
    mark = kept._mark(large)
    arm = next(arm for arm in large.scoring)
    unit = next(large.journal.units(arm.digest))

    async def write() -> None:
        async with Journal(directory / "journal.sqlite") as journal:
            await journal.finish(unit)

    asyncio.run(write())
    assert kept._mark(large) != mark
    assert kept._read(directory / FOLDER, kept._mark(large)) is None
    assert kept.columns(large)
    assert kept._read(directory / FOLDER, kept._mark(large)) is not None


def _shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [_shortened, _flipped, Path.unlink])
def test_columns_of_which_a_file_is_broken_are_made_again(directory: Path, large: Run, harm: object) -> None:
    wanted = np.array(kept.columns(large)["score/right"])
    harm(directory / FOLDER / "3.npy")  # type: ignore[operator]  # one of three functions of a path
    assert kept._read(directory / FOLDER, kept._mark(large)) is None
    np.testing.assert_array_equal(kept.columns(large)["score/right"], wanted)
    assert kept._read(directory / FOLDER, kept._mark(large)) is not None


def test_a_broken_list_of_columns_is_not_trusted(directory: Path, large: Run) -> None:
    assert large.columns.metrics
    for text in ("", "[]", '{"mark": 3}'):
        (directory / FOLDER / "meta.json").write_text(text)
        assert kept._read(directory / FOLDER, kept._mark(large)) is None
    assert kept.columns(large).metrics


def test_a_part_of_a_run_has_the_rows_of_its_latents(large: Run) -> None:
    (coder, indices), *_ = large.latents.items()
    chosen = set(indices[1:7:2])
    part = large.part({coder: chosen})
    plain = large.scores()
    wanted = plain[plain["latent"].isin(chosen) & (plain["coder"] == coder)].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.scores(), wanted)
