"""A report's figures of dots are what its tables are of: a real run with two explainers and two scorers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.analysis.load import Run, load
from harness.report import gather, render
from harness.report.data import Grid
from harness.report.evidence import Arm
from harness.report.plots import Plot
from harness.report.points import calibration_plots
from harness.runs.running import conduct
from harness.task import load_task

SCORERS = [
    {"name": "detection", "kind": "detection", "model": "lexical/rules"},
    {"name": "fuzzing", "kind": "fuzzing", "model": "lexical/rules"},
    {"name": "intruder", "kind": "intruder", "model": "lexical/rules"},
]


@pytest.fixture
def run(write_task: Callable[..., Path], tmp_path: Path) -> Run:
    (tmp_path / "mine.jsonl").write_text(
        "".join(json.dumps({"latent": at, "explanation": f'The token "w{at % 3}".'}) + "\n" for at in range(6))
    )
    explainers = [
        {"name": "a", "kind": "contexts", "model": "lexical/rules"},
        {"name": "mine", "kind": "file", "path": "mine.jsonl"},
    ]
    task = write_task(explainer=explainers, scorer=SCORERS, latents={"ids": [0, 1, 2, 3, 4, 5], "min_examples": 50})
    asyncio.run(conduct(load_task(task), tmp_path / "out"))
    return load(tmp_path / "out")


def _grids(run: Run) -> dict[str, Grid]:
    return {grid.caption.split(":")[0]: grid for grid in gather(run).grids}


def _of(run: Run, scorer: str, explainer: str, latent: int) -> float:
    frame = run.scores()
    rows = frame[(frame["scorer"] == scorer) & (frame["latent"] == latent) & frame["control"].isna()]
    (found,) = rows[rows["explainer"] == explainer]["metrics"]
    return found[run.metric_of(scorer)]


def test_scorers_stand_against_each_other_in_the_dots_that_are_correlated(run: Run) -> None:
    plots = {plot.title: plot for plot in _grids(run)["How far scorers agree"].plots}
    assert set(plots) == {"fuzzing against detection", "intruder against detection", "intruder against fuzzing"}
    plot = plots["fuzzing against detection"]
    assert [(one.label, one.style, len(one.dots)) for one in plot.series] == [("a", 0, 6), ("mine", 1, 6)]
    for one in plot.series:
        for dot in one.dots:
            latent = int(dot.name.split()[1])
            assert (dot.x, dot.y) == tuple(_of(run, name, one.label, latent) for name in ("detection", "fuzzing"))
    x, y = np.array([(dot.x, dot.y) for one in plot.series for dot in one.dots]).T
    assert plot.note == f"Spearman {stats.spearmanr(x, y).statistic:.2f}."
    # a scorer of latents alone stands beside each explanation
    assert [len(one.dots) for one in plots["intruder against fuzzing"].series] == [6, 6]


def test_scores_stand_against_the_firing_rate(run: Run) -> None:
    plots = {plot.title: plot for plot in _grids(run)["Scores by how often latents fire"].plots}
    rates = {row["latent"]: row["base_rate"] for row in run.explanation_records() if row["base_rate"] is not None}
    (a, mine) = plots["detection"].series
    assert (a.label, mine.label) == ("a", "mine")
    assert {dot.name: (dot.x, dot.y) for dot in mine.dots} == {
        f"{coder} {latent}": (rates[latent], _of(run, "detection", "mine", latent))
        for coder, latents in run.latents.items()
        for latent in latents
    }
    assert [one.label for one in plots["intruder"].series] == ["latent"]
    for plot in plots.values():
        assert all(plot.across.low < dot.x < plot.across.high for one in plot.series for dot in one.dots)
        assert all(plot.up.low <= dot.y <= plot.up.high for one in plot.series for dot in one.dots)


def test_a_calibrations_curve_has_a_dot_a_tenth(run: Run) -> None:
    grid = _grids(run)["Calibration"]
    assert grid.plots
    assert sum(len(one.dots) for plot in grid.plots for one in plot.series) == len(grid.rows)
    told = {
        (f"{plot.title}, {one.label}", f"{dot.x:.2f}", f"{dot.y:.2f}", dot.name.split()[0])
        for plot in grid.plots
        for one in plot.series
        for dot in one.dots
    }
    assert told == {(row[0], row[3], row[4].split()[0], row[2]) for row in grid.rows}


def test_a_curves_intervals_are_those_of_the_table() -> None:
    row = {"scorer": "d", "arm": "b", "probability": 0.2, "activating": 0.3, "verdicts": 1200}
    row |= {"activating_low": 0.25, "activating_high": 0.36}
    (plot,) = calibration_plots((Arm("a"), Arm("a", "shuffled"), Arm("b")), [row])
    assert plot.joined
    (series,) = plot.series
    assert (series.label, series.style) == ("b", 1)
    assert [(dot.name, dot.interval) for dot in series.dots] == [("1,200 verdicts", (0.25, 0.36))]


def test_the_page_holds_every_figure_and_its_legend(run: Run) -> None:
    data = gather(run)
    plots: list[Plot] = [plot for grid in data.grids for plot in grid.plots]
    page = render(data)
    for plot in plots:
        assert f'aria-label="{plot.title}: {plot.up.label} by {plot.across.label}"' in page
    assert page.count('class="spot') == sum(len(one.dots) + 1 for plot in plots for one in plot.series)
