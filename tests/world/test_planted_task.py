"""The planted task end to end: scores that are known beforehand come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import harness
from harness.metrics import mean_interval, permuted_figures
from harness.scorers.verdicts import Verdicts

pytestmark = pytest.mark.slow

NOISE = 0.2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working directory, so that all runs here share one store."""
    return tmp_path_factory.mktemp("planted")


def planted(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> harness.Run:
    monkeypatch.chdir(folder)
    return harness.run("planted", folder / "runs" / name, overrides=overrides, report=False)


def figures(run: harness.Run, explainer: str | None, control: str | None, scorer: str) -> dict[int, float]:
    """Balanced accuracy by latent."""
    return {
        row.latent: row.unit.result["metrics"]["balanced_accuracy"]
        for row in run.score_rows()
        if row.unit is not None
        and (row.arm.explainer, row.arm.control, row.scoring.scorer) == (explainer, control, scorer)
    }


def windows_of(run: harness.Run, latent: int) -> np.ndarray:
    """Windows of 32 tokens of one document in which a latent fires."""
    store = run.store()
    ids = np.unique(store.coder("planted").latent(latent).positions // 32)
    return ids[store.window_documents(32)[ids] >= 0]


@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
def test_true_explanations_score_one_with_an_error_free_judge(
    folder: Path, monkeypatch: pytest.MonkeyPatch, scorer: str
) -> None:
    run = planted(
        folder,
        "exact",
        monkeypatch,
        'model."truth/noisy".false_positive=0.0',
        'model."truth/noisy".false_negative=0.0',
    )
    found = figures(run, "true", None, scorer)
    assert len(found) == 40
    assert set(found.values()) == {1.0}


@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
def test_errors_of_one_in_five_either_way_lower_true_explanations_to_four_fifths(
    folder: Path, monkeypatch: pytest.MonkeyPatch, scorer: str
) -> None:
    run = planted(folder, "noisy", monkeypatch)
    interval = mean_interval(list(figures(run, "true", None, scorer).values()))
    assert interval is not None
    assert 1 - NOISE in interval
    assert interval.high - interval.low < 0.03


def test_shuffled_explanations_score_what_the_concepts_co_occurrence_gives(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planted(folder, "noisy", monkeypatch)
    partners = {
        latent: unit.result["partner"]
        for arm, latent, unit in run.explanation_units()
        if unit is not None and (arm.explainer, arm.control) == ("true", "shuffled")
    }
    usable = int((run.store().window_documents(32) >= 0).sum())
    expected = {latent: _co_occurrence(run, latent, partner, usable) for latent, partner in partners.items()}
    found = figures(run, "true", "shuffled", "detection")
    interval = mean_interval([found[latent] - expected[latent] for latent in found])
    assert interval is not None
    assert 0.0 in interval
    assert interval.high - interval.low < 0.04


def _co_occurrence(run: harness.Run, latent: int, partner: int, usable: int) -> float:
    """0.5 + half of P(partner fires | latent fires) - P(partner fires | it is silent), shrunk by the judge's errors."""
    own, other = windows_of(run, latent), windows_of(run, partner)
    both = len(np.intersect1d(own, other))
    given_firing, given_silent = both / len(own), (len(other) - both) / (usable - len(own))
    return 0.5 + (1 - 2 * NOISE) * (given_firing - given_silent) / 2


def test_permuted_labels_score_one_half(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planted(folder, "noisy", monkeypatch)
    verdicts = [
        row.verdicts
        for row in run.score_rows()
        if row.verdicts is not None and (row.arm.explainer, row.arm.control, row.scoring.scorer) == TRUE_DETECTION
    ]
    inside = sum(_half_inside(verdicts, seed) for seed in range(400))
    # within three standard errors of 95 in 100
    assert 367 <= inside <= 393


TRUE_DETECTION = ("true", None, "detection")


def _half_inside(verdicts: list[Verdicts], seed: int) -> bool:
    means = [
        permuted_figures(found.truth, found.label, permutations=1, seed=1000 * seed + place)[0]
        for place, found in enumerate(verdicts)
    ]
    interval = mean_interval(means, seed=seed)
    return interval is not None and 0.5 in interval
