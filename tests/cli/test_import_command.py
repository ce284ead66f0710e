"""`harness import`, and what can be asked of what it imported."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import load

Harness = Callable[..., Any]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A batch of two latents that fire on a word of their own, in 30 rows, and are silent in 5."""

    def rows(word: str) -> list[dict[str, Any]]:
        found = []
        for row in range(35):
            tokens = [f" {word}{row}x{n}" for n in range(64)]
            values = [0.0] * 64
            if row < 30:
                tokens[row], values[row] = f" {word}", 1.0 + row
            found.append({"tokens": tokens, "values": values})
        return found

    features = [{"feature_index": n, "activations": rows(word)} for n, word in enumerate(("cat", "dog"))]
    path = tmp_path / "batch-0.json"
    path.write_text(json.dumps({"model_id": "m", "layer": 0, "sae_set": "res", "features": features}))
    return path


@pytest.fixture
def task(published: Path, harness: Harness, write_task: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Writes a task on the imported batch."""
    assert harness("import", published, "--out", "stores/published").code == 0

    def write(latents: dict[str, Any] | None = None, examples: dict[str, Any] | None = None) -> Path:
        scored = {"activating": 20, "non_activating": 20, "minimum": 2, "rungs": ["zero-row", "same-row"]}
        return write_task(
            coder=[{"name": "0-res"}],
            store={"path": str(tmp_path / "stores" / "published")},
            latents={"sample": 2, "min_examples": 10, **(latents or {})},
            examples={"scored": {**scored, **((examples or {}).pop("scored", {}))}, **(examples or {})},
        )

    return write


def test_it_tells_what_it_imported(published: Path, harness: Harness) -> None:
    said = harness("import", published, "--out", "stores/published")
    assert said.code == 0
    assert said.out.splitlines() == [
        "0-res: 2 latents, 2 of them fire, 60 times",
        "stores/published: 70 selected rows of 64 tokens, model m",
        "records 70",
    ]


def test_a_mistake_is_one_sentence(published: Path, harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("{}")
    said = harness("import", "none.json", "--out", "store")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("harness: none.json is of no known format: it is JSON with the keys of nothing; known")
    assert harness("import", published, "--out", "store").code == 0
    said = harness("import", published, "--out", "store")
    assert said.code == 2
    assert said.err == "harness: store already holds a store: delete it or choose another folder\n"


def test_a_run_needs_no_subject_and_asks_each_rung(task: Callable[..., Path], harness: Harness) -> None:
    said = harness("run", task(), "--out", "run")
    assert said.code == 0, said.err
    assert "on rung zero-row" in said.out
    run = load("run")
    scores = run.scores()
    assert set(scores["rung"]) == {"zero-row", "same-row"}
    assert set(scores["status"]) == {"ok"}
    assert run.explanations()["base_rate"].isna().all()
    assert set(run.summary()["latents"]) == {2}
    verdicts = run.verdicts()
    assert set(verdicts["quantile"]) == {0}
    own = verdicts[verdicts["control"].isna()]
    assert (own["label"] == own["truth"]).all()  # a word that is nowhere else is easy
    assert all(figures["by_quantile"] == {} for figures in scores["metrics"])


def test_the_report_has_a_table_for_each_rung_the_headlines_first_and_no_curves(
    task: Callable[..., Path], harness: Harness
) -> None:
    assert harness("run", task(), "--out", "run").code == 0
    page = Path("run/report/index.html").read_text("utf-8").split("<script")[0]
    assert re.findall(r"rung <b>([a-z-]+)</b>", page) == ["zero-row", "same-row"]
    assert page.index("ranks the arms") < page.index("rung <b>same-row")
    assert page.count("ranks the arms") == 1
    assert "read on <b>70 published records</b>" in page
    assert "how often a latent fires is not known, so there are no figures at base rate and no quantiles" in page
    assert "quantile of activation" not in page


def test_a_rung_with_too_few_is_told_and_the_other_is_scored(task: Callable[..., Path], harness: Harness) -> None:
    # 4 silent rows of 2 windows are scored, and some 15 silent windows beside those that fire
    said = harness("run", task(examples={"scored": {"minimum": 9}}), "--out", "run")
    assert said.code == 0, said.err
    scores = load("run").scores()
    statuses = {rung: set(group["status"]) for rung, group in scores.groupby("rung")}
    assert statuses == {"zero-row": {"too_few_examples"}, "same-row": {"ok"}}


def test_try_shows_a_published_latent(task: Callable[..., Path], harness: Harness) -> None:
    said = harness("try", task(), "--latent", "1")
    assert said.code == 0, said.err
    assert "rung same-row" in said.out
    assert " dog" in said.out


@pytest.mark.parametrize(
    ("latents", "examples", "message"),
    [
        ({}, {"scored": {"rungs": ["random"]}}, 'scored.rungs: "random" cannot be had of .* it has "zero-row" and "sa'),
        ({}, {"shown": {"sampler": "quantiles"}}, "shown.sampler: .* which have no quantiles; use"),
        ({}, {"shown": {"sampler": "mix"}}, "shown.sampler: .* which have no quantiles; use"),
        ({}, {"scored": {"quantiles": 5}}, "scored.quantiles: .* which have no quantiles; leave it out"),
        ({"max_rate": 0.5}, {}, "latents.max_rate: .* how often a latent fires is not known; leave it out"),
        ({"min_examples": 200}, {}, r"at least 200 activating windows \(most: 30\); lower latents.min_examples$"),
    ],
)
def test_what_records_do_not_have_is_refused(
    task: Callable[..., Path], harness: Harness, latents: Any, examples: Any, message: str
) -> None:
    said = harness("run", task(latents, examples), "--out", "run")
    assert said.code == 2
    assert said.err.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(said.err.strip())


def test_rungs_of_records_are_refused_for_a_store_of_all_the_text(
    write_task: Callable[..., Path], harness: Harness
) -> None:
    scored = {"activating": 10, "non_activating": 10, "rungs": ["zero-row"]}
    said = harness("run", write_task(examples={"scored": scored}), "--out", "run")
    assert said.code == 2
    assert 'examples.scored.rungs: "zero-row" cannot be had of' in said.err
    assert 'which holds all of the text that was read; it has "random"' in said.err
