"""The report of a large run: its aggregates are those of all latents, and it has pages of some."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from harness.analysis import load as loading
from harness.analysis.load import Run, load
from harness.report import gather, render, selecting
from harness.report.data import ReportData
from harness.report.reading import Reading
from harness.runs.running import conduct
from harness.task import load_task


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, make_store: Callable[..., Any]) -> Path:
    place = tmp_path_factory.mktemp("large")
    store = make_store(place / "store", contexts=400, latents=24, words=[f"w{number}" for number in range(200)])
    said = [f'the word " w{latent if latent % 3 else latent + 1}"' for latent in range(22)]
    lines = [json.dumps({"latent": latent, "explanation": words}) for latent, words in enumerate(said)]
    (place / "mine.jsonl").write_text("\n".join(lines))
    task = {
        "name": "large",
        "store": {"path": str(store.path)},
        "coder": [{"name": "words", "kind": "planted"}],
        "latents": {"ids": list(range(24)), "min_examples": 50},
        "examples": {"scored": {"activating": 10, "non_activating": 10}},
        "explainer": [{"name": "mine", "kind": "file", "path": "mine.jsonl"}],
        "scorer": [
            {"name": "detection", "kind": "detection", "model": "lexical/rules"},
            {"name": "fuzzing", "kind": "fuzzing", "model": "lexical/rules"},
        ],
    }
    (place / "task.toml").write_text(tomli_w.dumps(task))
    asyncio.run(conduct(load_task(place / "task.toml"), place / "run"))
    return place / "run"


@pytest.fixture(scope="module")
def plain(directory: Path) -> ReportData:
    return gather(load(directory))


@pytest.fixture
def large(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(loading, "MANY", 10)
    for name, count in (("FIRST", 5), ("HIGHEST", 2), ("LOWEST", 2), ("APART", 2)):
        monkeypatch.setattr(selecting, name, count)
    run = load(directory)
    yield run
    run.close()


def test_aggregates_are_those_of_all_latents(large: Run, plain: ReportData) -> None:
    made = gather(large)
    assert made.comparisons == plain.comparisons
    assert [row.arm for row in made.summary] == [row.arm for row in plain.summary]
    for row, wanted in zip(made.summary, plain.summary, strict=True):
        assert row.mean == pytest.approx(wanted.mean, abs=1e-12)
        assert row.interval == pytest.approx(wanted.interval, abs=1e-12)
        assert (row.n, row.failed) == (wanted.n, wanted.failed)
    for curve, wanted in zip(made.curves, plain.curves, strict=True):
        assert (curve.arm, curve.scorer) == (wanted.arm, wanted.scorer)
        for point, other in zip(curve.points, wanted.points, strict=True):
            assert (point.quantile, point.n) == (other.quantile, other.n)
            assert point.share == pytest.approx(other.share, abs=1e-12)
    assert made.header.counts == plain.header.counts
    assert set(made.header.failures) == set(plain.header.failures)
    own = [grid for grid in plain.grids if grid.section == "costs"]
    assert [grid.rows for grid in made.grids if grid.section == "costs"] == [grid.rows for grid in own]


def test_histograms_are_of_all_latents(large: Run, plain: ReportData) -> None:
    made = gather(large)
    assert made.scores is not None
    for arm in plain.arms:
        wanted = [
            line.metrics["balanced_accuracy"]
            for latent in plain.latents
            for line in latent.scores
            if line.arm == arm and line.scorer == "fuzzing" and "balanced_accuracy" in line.metrics
        ]
        assert sorted(made.scores.get((arm, "fuzzing"), np.empty(0)).tolist()) == pytest.approx(sorted(wanted))


def test_pages_are_of_the_first_the_best_the_worst_and_those_that_scorers_part_on(
    large: Run, plain: ReportData
) -> None:
    order = large.latents["words"]
    figures = {
        latent.latent.index: {
            line.scorer: line.metrics["balanced_accuracy"]
            for line in latent.scores
            if line.arm.control is None and line.status == "ok"
        }
        for latent in plain.latents
    }
    scored = {index: both for index, both in figures.items() if both}
    best = sorted(scored, key=lambda index: (scored[index]["detection"], index))
    apart = {index: 2 * abs(both["detection"] - both["fuzzing"]) for index, both in scored.items()}
    parted = sorted((index for index in apart if apart[index]), key=lambda index: (-apart[index], index))[:2]
    wanted = {*order[:5], *best[:2], *best[-2:], *parted}
    found = selecting.selected(Reading(large))
    assert found == {"words": wanted}
    made = gather(large)
    assert [latent.latent.index for latent in made.latents] == [index for index in order if index in wanted]


def test_a_page_is_that_of_a_report_of_all(large: Run, plain: ReportData) -> None:
    shown = gather(large, [7])
    (latent,) = shown.latents
    wanted = next(one for one in plain.latents if one.latent.index == 7)
    assert [line.metrics for line in latent.scores] == [line.metrics for line in wanted.scores]
    assert [example.pieces for example in latent.scored] == [example.pieces for example in wanted.scored]


def test_it_says_what_is_of_all_and_what_of_some(large: Run) -> None:
    page = render(gather(large))
    assert "There are 24 latents. Means," in page
    assert "are of all of them" in page
    assert "have a page" in page
