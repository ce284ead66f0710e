"""`harness variance` as people use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.resources import fixture
from harness.runs.variance import DESIGN

DRAWN = ("--draws", "2", "--explainer-samples", "1", "--scorer-samples", "3")


def test_tables_are_printed_and_said_in_words(harness: Callable[..., Any], erring_task: Path, tmp_path: Path) -> None:
    said = harness("variance", erring_task, *DRAWN)
    assert said.code == 0
    for words in (
        "balanced accuracy of detection: 6 latents, 2 draws of examples x 1 explanations x 3 verdicts",
        "one latent's score",
        "an arm's mean over 6 latents",
        "the difference of two arms over 6 latents",
        "Kendall's tau",
        "true - sibling: an interval over latents tells of a standard error of",
    ):
        assert words in " ".join(said.out.split())
    assert (tmp_path / "runs" / "planted-variance" / DESIGN).is_file()


def test_it_is_a_plan_first_where_asked_for(harness: Callable[..., Any], erring_task: Path, tmp_path: Path) -> None:
    assert "there are no activations yet" in harness("variance", erring_task, *DRAWN, "--plan").err
    assert harness("collect", erring_task).code == 0
    said = harness("variance", erring_task, *DRAWN, "--plan")
    assert said.code == 0
    # 6 latents in 2 draws, 2 explanations of each, 3 verdicts in 2 batches of ten
    assert "144" in said.out
    assert not (tmp_path / "runs").exists()


def test_json_has_every_table_and_going_on_changes_nothing(harness: Callable[..., Any], erring_task: Path) -> None:
    first = json.loads(harness("variance", erring_task, *DRAWN, "--out", "out", "--json").out)
    assert (first["scorer"], first["latents"], first["design"]["scorers"]) == ("detection", 6, ["detection"])
    assert {row["source"] for row in first["score"]} == {"latents", "examples", "scorer", "total"}
    # no interval below 20 latents
    assert {row["low"] for row in first["score"]} == {None}
    # noise of 20 verdicts, one in five wrong
    deviation = next(row["sd"] for row in first["score"] if row["source"] == "scorer" and row["arm"] == "true")
    assert 0.04 < deviation < 0.14
    assert json.loads(harness("variance", erring_task, *DRAWN, "--out", "out", "--json").out) == first


def test_further_corpora_are_read(harness: Callable[..., Any], erring_task: Path) -> None:
    further = fixture("text", "heldout.jsonl")
    said = harness(
        "variance", erring_task, *DRAWN, "--corpus", further, "--limit", "3", "--set", "limits.latents=2", "--json"
    )
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert {row["source"] for row in found["score"]} >= {"corpora", "examples"}


def test_a_corpus_that_is_not_there_is_told(harness: Callable[..., Any], erring_task: Path, write_task: Any) -> None:
    said = harness("variance", erring_task, *DRAWN, "--corpus", "nowhere.jsonl")
    assert said.code == 2
    assert "nowhere.jsonl: no such file or folder" in said.err
    own = harness("variance", write_task("other.toml"), *DRAWN, "--corpus", "nowhere.jsonl")
    assert own.code == 2
    assert "takes a finished [store]" in own.err
