"""The tasks for the three uses: as they are shipped, with models of two providers, and with one prompt changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.questions.prompts import load_variant
from harness.testing import ProviderProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SMALL = (
    "subject.corpus.tokens=60000",
    "latents.sample=4",
    "latents.min_examples=40",
    "examples.scored.activating=10",
    "examples.scored.non_activating=10",
)
OPENAI, ANTHROPIC = "openai/gpt-5-mini", "anthropic/claude-sonnet-5"
# which keys take which model, by task
SWAPPED: dict[str, dict[str, str]] = {
    "compare-explainers": {
        "explainer.contexts.model": OPENAI,
        "explainer.contrastive.model": ANTHROPIC,
        "explainer.refine.model": ANTHROPIC,
        "scorer.detection.model": OPENAI,
        "scorer.fuzzing.model": ANTHROPIC,
    },
    "swap-providers": {
        "explainer.one.model": OPENAI,
        "explainer.other.model": ANTHROPIC,
        "scorer.detection.model": OPENAI,
    },
    "compare-prompts": {
        "explainer.default.model": OPENAI,
        "explainer.no-activations.model": OPENAI,
        "explainer.cot.model": OPENAI,
        "explainer.short.model": ANTHROPIC,
        "scorer.detection.model": ANTHROPIC,
        "scorer.json.model": OPENAI,
    },
}
Run = Callable[..., harness.Run]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working directory, so that all runs here share their stores."""
    return tmp_path_factory.mktemp("uses")


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both providers' servers, in a process of their own."""
    with ProviderProcess() as server:
        for name, url in (("OPENAI", server.openai_url), ("ANTHROPIC", server.url)):
            monkeypatch.setenv(f"{name}_BASE_URL", url)
            monkeypatch.setenv(f"{name}_API_KEY", "none")
        yield server


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(folder)

    def go(name: str, out: str, overrides: Sequence[str] = ()) -> harness.Run:
        return harness.run(name, folder / "runs" / out, overrides=(*SMALL, *overrides), report=False)

    return go


def swapped(name: str) -> list[str]:
    return [f"{key}={model}" for key, model in SWAPPED[name].items()]


def attempts(run: harness.Run) -> Counter[tuple[str, str]]:
    """How many requests were sent, by stage and model."""
    ledger = run.ledger()
    return Counter(zip(ledger["stage"], ledger["model"], strict=True))


@pytest.mark.parametrize("name", list(SWAPPED))
def test_it_runs_as_it_is_shipped_without_any_key(run: Run, name: str) -> None:
    found = run(name, f"{name}-shipped").scores()
    first = found[found["control"].isna()]
    assert set(first["scorer"]) >= {"detection"}
    assert (first["status"] == "ok").any()


@pytest.mark.parametrize("name", list(SWAPPED))
def test_models_of_two_providers_take_the_places(run: Run, provider: Any, name: str) -> None:
    loaded = run(name, f"{name}-swapped", swapped(name))
    explanations, scores = loaded.explanations(), loaded.scores()
    assert set(explanations["status"]) <= {"ok", "no_partner"}
    asked = {SWAPPED[name].get(f"scorer.{scorer}.model") for scorer in set(scores["scorer"])} - {None}
    assert set(scores["scorer_model"]) >= asked
    assert {model for _, model in attempts(loaded)} >= set(SWAPPED[name].values())


def test_another_prompt_asks_again_only_what_depends_on_it(run: Run, provider: Any, tmp_path: Path) -> None:
    name = "compare-prompts"
    before = attempts(run(name, "changed", swapped(name)))
    again = attempts(run(name, "changed", swapped(name)))
    assert again == before
    mine = _changed("explain", "cot", "step by step", tmp_path)
    changes = [*swapped(name), f"explainer.cot.prompt={mine}"]
    explained = attempts(run(name, "changed", changes))
    # four latents are explained anew by one arm; the same words come out, whose scores are there already
    assert explained - before == {("explain", OPENAI): 4}
    judge = _changed("detect", "json", "Judge each", tmp_path)
    judged = attempts(run(name, "changed", [*changes, f"scorer.json.prompt={judge}"]))
    # another prompt of a scorer asks that scorer's questions again, and nobody else's
    assert judged - explained == {("score", OPENAI): before["score", OPENAI]}


def _changed(question: str, name: str, words: str, folder: Path) -> Path:
    """A shipped variant with other words."""
    source = load_variant(question, name).path.read_text("utf-8")
    assert words in source
    path = folder / f"{name}.toml"
    path.write_text(source.replace(words, "Look at each"), "utf-8")
    return path
