"""The shipped subject and SAE: small enough to ship, good enough to mean something, and as their report says."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from harness.resources import fixture
from harness.subject.coders.sae import SAECoder
from harness.subject.corpus_files import FileCorpus
from harness.subject.evaluate import evaluate
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import find_model, load_model
from harness.subject.packing import Packer, load_tokenizer
from harness.subject.tracing import Traced
from harness.task import CoderSettings


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return json.loads(fixture("subject", "report.json").read_text(encoding="utf-8"))


def test_it_is_small_enough_to_ship() -> None:
    files = [path for path in fixture().rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < 15e6


def test_the_model_has_learned_the_world(report: dict[str, Any]) -> None:
    loss = report["model"]["loss"]
    assert report["model"]["parameters"] < 5e6
    assert loss["grammar"] < loss["context_256"] < loss["grammar"] + 0.3 < loss["bigram"] < loss["unigram"]
    assert loss["context_1024"] < loss["context_256"] + 0.05


def test_the_sae_meets_its_bar(report: dict[str, Any]) -> None:
    sae = report["sae"]
    assert sae["recovered"] > 0.99
    assert sae["alive"] > 0.75 * sae["latents"]
    assert sae["windows"]["median_eligible"] < 0.05
    trained, control, permuted = (report["matched"][name] for name in ("trained", "random_sae", "permuted_labels"))
    assert trained["concepts_above"]["0.5"] >= 30
    assert trained["concepts_above"]["0.8"] >= 8
    for bar in ("0.5", "0.8", "0.9"):
        assert trained["concepts_above"][bar] > control["concepts_above"][bar] >= permuted["concepts_above"][bar] == 0
    assert len(report["known"]) == trained["latents_above"]["0.9"] >= 20


@pytest.mark.slow
def test_the_report_is_of_these_files(report: dict[str, Any]) -> None:
    files = find_model(str(fixture("subject")), None, Path())
    hookpoint = Hookpoint(report["sae"]["hookpoint"])
    settings = CoderSettings(name="sae", hookpoint=hookpoint.path, path=str(fixture("subject", "sae")))
    coder = SAECoder.load(settings, Path())
    assert coder.info.n_latents == report["sae"]["latents"]
    texts = FileCorpus(fixture("text", "heldout.jsonl"))
    batches = islice(Packer(load_tokenizer(files), 256).batches(texts.documents(), texts.name, 16), 4)
    found = evaluate(Traced(load_model(files, "float32", "cpu")), hookpoint, coder, batches)
    assert found.loss_clean == pytest.approx(report["model"]["loss"]["context_256"], abs=0.06)
    assert found.figures.fvu == pytest.approx(report["sae"]["fvu"], abs=0.01)
    assert found.figures.l0 == pytest.approx(report["sae"]["l0"], abs=0.05)
    assert found.recovered == pytest.approx(report["sae"]["recovered"], abs=0.003)
