"""The subject explains itself: what counts of what it says, what is noted, and runs of it to the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import ValidationError

from harness.analysis.load import load
from harness.clients.models import Models
from harness.errors import CoderError
from harness.examples.draw import LatentExamples
from harness.explainers.self_ import SelfExplaining
from harness.resources import fixture
from harness.runs.plan import aplan
from harness.runs.running import conduct
from harness.subject.introspection import Asking, Introspection, Said
from harness.task import load_task
from harness.values import Explanation, Failure, Latent
from tests.docs.pages import blocks

pytestmark = pytest.mark.anyio

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


class Says:
    """A subject that says these words, at a scale of 2."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def introspect(self, latent: Latent, asking: Asking, seed: int) -> Introspection:
        said = (Said(1.0, 0.1, 3.0, "no"), Said(2.0, 0.5, float("nan"), self.text))
        return Introspection(said, 1)


def explainer(**settings: Any) -> SelfExplaining:
    return SelfExplaining(SelfExplaining.Settings(**settings), Models({}, lambda client: client), Path())


@pytest.fixture
def examples() -> LatentExamples:
    return LatentExamples(Latent("sae", 3), (), (), (), 1.0, 0.1, {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('a small cat" and so on', "a small cat"),
        ("a small cat\nand so on", "a small cat"),
        ("  a small cat ", "a small cat"),
    ],
)
async def test_what_comes_before_the_closing_quote_or_line_counts(
    text: str, told: str, examples: LatentExamples
) -> None:
    one = explainer()
    one.bind(Says(text))
    found = await one.explain(examples, 0)
    assert found.explanation == Explanation(told)
    assert found.notes == {"scale": 2.0, "scales": [[1.0, 0.1, 3.0, "no"], [2.0, 0.5, None, text]]}


async def test_nothing_said_is_a_failure(examples: LatentExamples) -> None:
    one = explainer()
    one.bind(Says('" is nothing'))
    assert (await one.explain(examples, 0)).explanation == Failure("unparsable", "at scale 2 the subject said nothing")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prompt": "what?"}, r"has to have \{latent\}"),
        ({"scales": (2.0, 1.0)}, "have to ascend"),
        ({"scales": ()}, "at least 1 item"),
        ({"scales": (0.0,)}, "greater than 0"),
        ({"layer": -1}, "greater than or equal to 0"),
        ({"model": "openai/gpt"}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        SelfExplaining.Settings(**settings)


def test_what_decides_the_words_is_in_the_identity() -> None:
    plain = explainer().identity
    for settings in ({"layer": 1}, {"scales": (1.0,)}, {"tokens": 5}, {"temperature": 1.0}, {"prompt": "{latent}"}):
        assert explainer(**settings).identity != plain
    assert explainer().identity == plain


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a task in which the shipped subject explains its own latents; keywords replace its tables."""
    monkeypatch.chdir(tmp_path)

    def make(**tables: Any) -> Path:
        corpus = {"path": str(fixture("text", "demo.jsonl")), "tokens": 40_000}
        base: dict[str, Any] = {
            "name": "self",
            "subject": {"model": str(fixture("subject")), "corpus": corpus, "context": 256, "batch": 16},
            "coder": [{"name": "sae", "hookpoint": "model.layers.1", "path": str(fixture("subject", "sae"))}],
            "latents": {"sample": 3, "min_examples": 40, "max_rate": 0.3},
            "examples": {"scored": {"activating": 10, "non_activating": 10, "minimum": 5}},
            "explainer": [{"name": "self", "kind": "self", "layer": 1, "tokens": 8}],
            "scorer": [{"name": "detection", "kind": "detection", "model": "lexical/rules"}],
            "controls": [],
        }
        path = tmp_path / "task.toml"
        path.write_text(tomli_w.dumps(base | tables))
        return path

    return make


async def test_a_run_is_explained_by_its_subject_and_foretold_without_it(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    task = load_task(write(controls=["none"]))
    outcome = await conduct(task, tmp_path / "run")
    names: dict[str, Any] = {}
    (shown,) = blocks("self", "python")
    exec(shown.text.replace("runs/self", str(tmp_path / "run")), names)
    assert len(names["found"]) == 3
    units = [unit for _, _, unit in load(tmp_path / "run").explanation_units() if unit is not None]
    assert len(units) == 3
    assert set(outcome.failures) <= {"unparsable"}
    for unit in units:
        scales = unit.result["notes"]["scales"]
        assert [row[0] for row in scales] == list(SelfExplaining.Settings().scales)
        assert all(-1 <= row[1] <= 1 and row[2] >= 0 for row in scales)
        (chosen,) = [row for row in scales if row[0] == unit.result["notes"]["scale"]]
        if unit.status == "ok":
            assert chosen[3].startswith(unit.result["text"]) or unit.result["text"] in chosen[3]
    forecast = await aplan(task, tmp_path / "none")
    assert all(line.free for line in forecast.lines)


async def test_a_latent_without_a_direction_cannot_be_asked_about(write: Callable[..., Path], tmp_path: Path) -> None:
    task = load_task(write(coder=[{"name": "planted", "kind": "planted"}]))
    with pytest.raises(CoderError, match='coder "planted" reads text'):
        await conduct(task, tmp_path / "run")


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.is_dir(), reason="the real model is not there")
async def test_a_real_model_says_words_of_a_direction_and_other_ones_of_another(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    corpus = {"path": str(DATA / "text" / "tinystories.jsonl"), "tokens": 30_000}
    task = load_task(
        write(
            subject={"model": str(DATA / "stories260K"), "corpus": corpus, "context": 512},
            coder=[{"name": "r", "kind": "random-sae", "hookpoint": "model.layers.2", "latents": 1024, "k": 4}],
            latents={"sample": 4, "min_examples": 40, "max_rate": 0.3},
            explainer=[{"name": "self", "kind": "self", "scales": [0.5, 1.0, 2.0]}],
        )
    )
    await conduct(task, tmp_path / "run")
    units = [unit for _, _, unit in load(tmp_path / "run").explanation_units() if unit is not None]
    said = [row[3] for unit in units for row in unit.result["notes"]["scales"]]
    assert len(said) == 12
    assert len(set(said)) > 3
    assert all(text for text in said)
