"""A real pretrained model on real text: collection, training of an SAE, and what its latents fire on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.subject.collect import collect, read_figures
from harness.subject.train import TrainingSettings, train_sae
from harness.task import CoderSettings, CorpusSettings, SubjectSettings

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real model and text are not beside the checkout"),
]


def test_an_sae_trained_on_a_real_model_explains_it(tmp_path: Path) -> None:
    model, corpus = str(DATA / "stories260K"), DATA / "text" / "tinystories.jsonl"
    settings = TrainingSettings(hookpoint="model.layers.2", latents=256, k=8, steps=150, batch=1024)
    report = train_sae(model, CorpusSettings(path=corpus, tokens=60_000), settings, tmp_path / "sae")
    assert report.fvu < 0.3
    assert report.recovered > 0.85
    # 1.27 nats on whole stories; rows that begin in the middle of one cost a little more
    assert 1.2 < report.loss_clean < 1.8
    assert report.alive > 230

    subject = SubjectSettings(model=model, corpus=CorpusSettings(path=corpus, tokens=40_000), threads=1)
    coder = CoderSettings(name="sae", hookpoint="model.layers.2", path=str(tmp_path / "sae"))
    store = collect(subject, [coder], tmp_path / "store")
    assert store.n_tokens == 40_000 // 256 * 256
    assert read_figures(store)["sae"].fvu == pytest.approx(report.fvu, abs=0.05)
    assert "".join(store.pieces(0, 0, 256)).startswith(" Once upon a time there was a little boy named Ben.")
    sae = store.coder("sae")
    kept = int((np.asarray(store.documents) >= 0).sum())
    assert sae.firings.sum() == pytest.approx(8 * kept, rel=0.01)

    # a token that a latent fires on is rarely drawn from all of them alike: the strongest firings repeat a few tokens
    flat = np.asarray(store.tokens).reshape(-1)
    shares = []
    for latent in np.argsort(-sae.firings)[40:80]:
        firings = sae.latent(int(latent))
        strongest = flat[firings.positions[np.argsort(-firings.values)[:30]]]
        shares.append(np.unique(strongest, return_counts=True)[1].max() / len(strongest))
    assert np.median(shares) > 0.3


def test_five_blocks_are_collected_in_one_pass(tmp_path: Path) -> None:
    model, corpus = str(DATA / "stories260K"), DATA / "text" / "tinystories.jsonl"
    reports = {}
    for block in range(5):
        settings = TrainingSettings(hookpoint=f"model.layers.{block}", latents=128, k=8, steps=80, batch=512)
        out = tmp_path / f"sae{block}"
        reports[f"block{block}"] = train_sae(model, CorpusSettings(path=corpus, tokens=30_000), settings, out)
    coders = [
        CoderSettings(name=f"block{block}", hookpoint=f"model.layers.{block}", path=str(tmp_path / f"sae{block}"))
        for block in range(5)
    ]
    subject = SubjectSettings(model=model, corpus=CorpusSettings(path=corpus, tokens=20_000), batch=16, threads=1)
    store = collect(subject, coders, tmp_path / "store")
    figures = read_figures(store)
    kept = int((np.asarray(store.documents) >= 0).sum())
    for name, report in reports.items():
        # held-out documents and those of the store are of one kind
        assert figures[name].fvu == pytest.approx(report.fvu, abs=0.06)
        assert store.coder(name).firings.sum() == pytest.approx(8 * kept, rel=0.02)
