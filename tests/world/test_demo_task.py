"""The demo end to end: on a real model and SAE, lexical explanations beat other latents' ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

import harness
from harness.metrics import sign_flip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working directory, so that all seeds share one store."""
    return tmp_path_factory.mktemp("demo")


@pytest.mark.timeout(600)  # the first seed collects the store
@pytest.mark.parametrize("seed", range(5))
def test_lexical_explanations_beat_shuffled_ones(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.chdir(folder)
    run = harness.run("demo", folder / "runs" / str(seed), overrides=[f"seed={seed}"], report=False)
    scores = run.scores()
    assert set(scores["status"]) == {"ok"}
    found = {
        (row.control if isinstance(row.control, str) else None, row.latent): row.metrics["balanced_accuracy"]
        for row in scores.itertuples()
        if row.scorer == "detection"
    }
    latents = sorted({latent for _, latent in found})
    assert len(latents) == 40
    differences = np.array([found[None, latent] - found["shuffled", latent] for latent in latents])
    assert differences.mean() > 0.1
    assert sign_flip(differences, seed=seed) < 0.001
    # an independent test on the same pairs says the same
    assert wilcoxon(differences).pvalue < 0.001
    withheld = np.array([found["none", latent] for latent in latents])
    assert abs(withheld.mean() - 0.5) < 0.03
