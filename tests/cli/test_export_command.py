"""`harness export`, `harness validate`, `harness import --explanations` and `harness upload`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import load
from harness.cli.export import Format
from harness.interop.exporting import FORMATS

Harness = Callable[..., Any]


@pytest.fixture
def run(harness: Harness, write_task: Callable[..., Path]) -> str:
    said = harness("run", write_task(latents={"ids": [3, 4], "min_examples": 50}), "--out", "run", "--no-report")
    assert said.code == 0, said.err
    return "run"


def test_the_command_knows_every_format() -> None:
    assert [one.value for one in Format] == list(FORMATS)


def test_it_names_what_it_wrote_and_what_has_no_place(run: str, harness: Harness) -> None:
    said = harness("export", run, "--format", "openai", "--out", "out", "--source", "words=3-res")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        *(f"out/collated-activations/3/{latent}.json" for latent in (3, 4)),
        *(f"out/explanations/3/{latent}.jsonl" for latent in (3, 4)),
        "scores of detection are left out: this format has simulations alone",
    ]


def test_validate_says_what_it_is_and_what_is_wrong(run: str, harness: Harness) -> None:
    assert harness("export", run, "--format", "neuronpedia", "--out", "out").code == 0
    said = harness("validate", "out")
    assert said.code == 0
    assert said.out.splitlines()[0] == "out: neuronpedia"
    assert "  2 lines of Neuronpedia's exported features" in said.out.splitlines()
    assert said.out.splitlines()[-1] == "right"
    batch = Path("out/upload/0-words/batch-0.json")
    body = json.loads(batch.read_text())
    body["features"][0]["index"] = -1
    batch.write_text(json.dumps(body))
    said = harness("validate", batch)
    assert said.code == 2
    assert said.out.splitlines()[-2:] == [f"{batch}: features[0].index: expected int >= 0", "1 wrong"]
    said = harness("validate", "gone")
    assert (said.code, said.err) == (2, "harness: gone: there is no such file or folder\n")


def test_what_is_imported_is_scored_as_an_arm_beside_ours(
    run: str, harness: Harness, write_task: Callable[..., Path]
) -> None:
    assert harness("export", run, "--format", "delphi", "--out", "delphi").code == 0
    said = harness("import", "delphi", "--explanations", "--out", "theirs.jsonl", "--coder", "words")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        "words: 2 explanations",
        f"scored there by detection balanced_accuracy: {load(run).summary()['mean'].iloc[0]:.3f} on average over 2",
        "theirs.jsonl",
    ]
    own = {"name": "a", "kind": "contexts", "model": "lexical/rules"}
    theirs = {"name": "theirs", "kind": "file", "path": "theirs.jsonl"}
    task = write_task(latents={"ids": [3, 4], "min_examples": 50}, explainer=[own, theirs])
    said = harness("run", task, "--out", "both", "--no-report")
    assert said.code == 0, said.err
    scores = load("both").scores()
    values = {
        arm: [metrics["balanced_accuracy"] for metrics in group["metrics"]]
        for arm, group in scores[scores["control"].isna()].groupby("explainer")
    }
    # the same words on the same windows by the same judge
    assert values["a"] == values["theirs"]
    assert len(values["a"]) == 2


def test_flags_of_the_other_kind_of_import_are_refused(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("latent,explanation\n1,words\n")
    said = harness("import", "a.csv", "--out", "x.jsonl", "--coder", "words")
    assert said.err == "harness: --coder is for explanations: give --explanations with it\n"
    said = harness("import", "a.csv", "--explanations", "--out", "x.jsonl", "--model", "m")
    assert said.err == "harness: --model is for activations, and --explanations asks for explanations\n"
    said = harness("import", "a.csv", "--explanations", "--out", "x.jsonl")
    assert said.out == "any coder: 1 explanations\nx.jsonl\n"


def test_a_dry_run_sends_nothing_and_needs_no_key(run: str, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEURONPEDIA_API_KEY", raising=False)
    assert harness("export", run, "--format", "neuronpedia", "--out", "out").code == 0
    said = harness("upload", "out/upload", "--dry-run")
    assert said.code == 0, said.err
    first, last = said.out.splitlines()
    assert first.startswith("out/upload/0-words/batch-0.json: made/0-words, 2 features, 2 explanations, ")
    assert last == "1 batches are right; nothing was sent"
    said = harness("upload", "out/upload")
    assert said.code == 2
    assert said.err.startswith("harness: NEURONPEDIA_API_KEY is not set: ")
