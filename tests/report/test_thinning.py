"""A report of very many latents keeps some examples of each, and says so."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.load import load
from harness.errors import UserError
from harness.report import gather, write_report
from harness.report.data import ReportData
from harness.report.evidence import Arm, ScoredExample, VerdictLine
from harness.report.thinning import KEPT, error, thinned
from harness.runs.running import conduct
from harness.task import load_task


def test_two_of_each_fifth_and_the_two_worst_are_kept(data: ReportData) -> None:
    for latent in data.latents[:10]:
        kept = thinned(latent)
        if not latent.scored:
            assert kept.scored == ()
            continue
        assert (len(kept.scored), kept.shown, kept.exchanges) == (KEPT, (), ())
        texts = {example.pieces for example in kept.scored}
        others = sorted((error(e) for e in latent.scored if e.pieces not in texts), reverse=True)
        fifths = Counter((e.quantile - 1) // 2 for e in kept.scored if e.quantile is not None)
        assert set(fifths) == set(range(5))
        assert min(fifths.values()) >= 2
        # the two that are not the first of their fifth are judged worse than all that were left out
        first: Counter[int] = Counter()
        beyond = []
        for example in kept.scored:
            fifth = -1 if example.quantile is None else (example.quantile - 1) // 2
            first[fifth] += 1
            if fifth < 0 or first[fifth] > 2:
                beyond.append(error(example))
        # probabilities of kept ones are rounded
        assert min(beyond) >= others[0] - 0.05
        assert (kept.explanations, kept.scores) == (latent.explanations, latent.scores)


def test_errors_count_probabilities_strengths_and_choices_of_real_arms() -> None:
    real, control = Arm("a"), Arm("a", "shuffled")

    def of(*verdicts: VerdictLine, truth: bool = True) -> float:
        return error(ScoredExample((" x",), np.ones(1, np.float32), truth, 1, "random", verdicts))

    assert of(VerdictLine(real, "s", 1)) == 0
    assert of(VerdictLine(real, "s", 0)) == 1
    assert of(VerdictLine(real, "s", 1, 0.7)) == pytest.approx(0.3)
    assert of(VerdictLine(real, "s", 0, 0.3), truth=False) == pytest.approx(0.3)
    assert of(VerdictLine(real, "s", None, strengths=(0.0, 4.0, float("nan")))) == pytest.approx(0.6)
    assert of(VerdictLine(real, "s", None, right=False)) == 1
    assert of(VerdictLine(real, "s", None, value=3.0)) == 0
    assert of(VerdictLine(control, "s", 0), VerdictLine(real, "s", None, failure="refused")) == 0


def test_records_without_quantiles_keep_their_first_ones(data: ReportData) -> None:
    latent = next(latent for latent in data.latents if latent.scored)
    bare = replace(latent, scored=tuple(replace(example, quantile=None) for example in latent.scored))
    kept = thinned(bare)
    assert len(kept.scored) == KEPT
    assert sum(example.truth for example in kept.scored) >= 10


@pytest.fixture
def run(write_task: Callable[..., Path], tmp_path: Path) -> Path:
    task = write_task(
        explainer=[
            {"name": "a", "kind": "contexts", "model": "lexical/rules"},
            {"name": "b", "kind": "contexts", "model": "lexical/rules", "strengths": "ceil"},
        ],
        scorer=[
            {"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10},
            {"name": "fuzzing", "kind": "fuzzing", "model": "lexical/rules", "batch": 10},
        ],
        latents={"ids": [0, 1, 2, 3, 4, 5], "min_examples": 50},
    )
    asyncio.run(conduct(load_task(task), tmp_path / "out"))
    return tmp_path / "out"


def test_above_the_limit_a_report_is_thin_and_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(run)
    whole = gather(loaded)
    monkeypatch.setattr(sys.modules["harness.report.gather"], "WHOLE", 5)
    thin = gather(loaded)
    assert all(len(latent.scored) == 20 for latent in whole.latents)
    assert all(len(latent.scored) == KEPT for latent in thin.latents)
    assert any("12 scored examples are shown" in note for note in thin.header.notes)
    assert (thin.summary, thin.comparisons, thin.grids) == (whole.summary, whole.comparisons, whole.grids)
    some = gather(loaded, [4, 1])
    assert sorted(latent.latent.index for latent in some.latents) == [1, 4]
    assert all(len(latent.scored) == 20 for latent in some.latents)
    assert some.summary == whole.summary


def test_a_latent_that_is_not_there_is_told(run: Path) -> None:
    with pytest.raises(UserError, match="no latent 77"):
        write_report(load(run), latents=[77])


def test_tables_of_scorers_and_costs_say_what_the_analysis_says(run: Path) -> None:
    loaded = load(run)
    grids = {grid.caption.split(":")[0]: grid for grid in gather(loaded).grids}
    assert set(grids) == {
        "How far scorers agree",
        "Where scorers disagree most",
        "Calibration",
        "Scores by how often latents fire",
        "What one explanation of a latent, and one score of it, took",
    }
    found = grids["How far scorers agree"]
    assert found.head == ("", "detection", "fuzzing")
    assert found.rows[0][0] == "detection"
    assert found.rows[1][1] == ""
    costs = grids["What one explanation of a latent, and one score of it, took"].rows
    assert [row[0] for row in costs] == ["explain: a", "explain: b", "score: detection", "score: fuzzing"]
    assert {row[-1] for row in costs} == {"free"}


def test_three_explainers_have_a_matrix_of_pairs(write_task: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"latent": 0, "explanation": "nothing"}\n')
    explainers = [
        {"name": "rules", "kind": "contexts", "model": "lexical/rules"},
        {"name": "again", "kind": "contexts", "model": "lexical/rules"},
        {"name": "mine", "kind": "file", "path": "mine.jsonl"},
    ]
    asyncio.run(conduct(load_task(write_task(explainer=explainers)), tmp_path / "out"))
    grid = next(grid for grid in gather(load(tmp_path / "out")).grids if "minus every other" in grid.caption)
    cells = {(row[0], name): cell for row in grid.rows for name, cell in zip(grid.head[1:], row[1:], strict=True)}
    assert cells["rules", "rules"] == ""
    assert cells["rules", "mine"].split()[0] == cells["mine", "rules"].split()[0].replace("−", "+")
    assert {cell.split()[1] for pair, cell in cells.items() if pair[0] != pair[1]} <= {
        "differ", "equivalent", "inconclusive",
    }  # fmt: skip
