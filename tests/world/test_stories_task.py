"""A real pretrained model on real stories, from training its SAE to scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import harness
from harness.metrics import sign_flip
from harness.subject.train import TrainingSettings, train_sae
from harness.task import CorpusSettings

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real model and text are not beside the checkout"),
]


@pytest.mark.timeout(900)  # trains an SAE and reads 600,000 tokens
def test_latents_of_a_real_model_are_explained_better_than_by_other_latents_explanations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = TrainingSettings(hookpoint="model.layers.2", latents=2048, k=8, steps=250, context=512)
    corpus = CorpusSettings(path=DATA / "text" / "tinystories.jsonl", tokens=300_000)
    train_sae(str(DATA / "stories260K"), corpus, settings, tmp_path / "sae")
    run = harness.run("stories260k", tmp_path / "run", overrides=[f"coder.res2.path={tmp_path / 'sae'}"])
    assert run.record["store"]["tokens"] >= 500_000
    explanations = run.explanations()
    own = explanations[explanations["control"].isna()]
    assert len(own) >= 50
    assert (own["base_rate"] < 0.05).sum() >= 5
    scores = run.scores()
    assert set(scores["status"]) == {"ok"}
    found = {
        (row.control if isinstance(row.control, str) else None, row.latent): row.metrics["balanced_accuracy"]
        for row in scores.itertuples()
        if row.scorer == "detection"
    }
    differences = np.array([found[None, latent] - found["shuffled", latent] for latent in own["latent"]])
    assert differences.mean() > 0.1
    assert sign_flip(differences) < 0.001
    assert (run.path / "report" / "index.html").stat().st_size > 100_000
