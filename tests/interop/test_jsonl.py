from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import load
from harness.interop.jsonl import EXPLANATION_KEYS, SCORE_KEYS, export
from harness.runs.running import conduct
from harness.task import load_task


class Made:
    """Rows as a run gives them."""

    def __init__(self, explanations: list[dict[str, Any]], scores: list[dict[str, Any]]) -> None:
        self._explanations, self._scores = explanations, scores

    def each_explanation(self) -> list[dict[str, Any]]:
        return self._explanations

    def each_score(self) -> list[dict[str, Any]]:
        return self._scores


def _lines(path: Path) -> list[dict[str, Any]]:
    def strict(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=strict) for line in path.read_text(encoding="ascii").splitlines()]


@pytest.fixture
def exported(
    write_task: Callable[..., Path], tmp_path: Path, make_store: Callable[..., Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    store = make_store(tmp_path / "wide", latents=44)
    task = write_task(
        store={"path": str(store.path)},
        coder=[{"name": "words", "kind": "planted", "hookpoint": "model.layers.1"}],
        latents={"ids": [3, 4, 42], "min_examples": 50},
        controls=["shuffled", "generic", "none"],
    )
    asyncio.run(conduct(load_task(task), tmp_path / "run"))
    first, second = export(load(tmp_path / "run"), tmp_path / "deep" / "out")
    assert (first.name, second.name) == ("explanations.jsonl", "scores.jsonl")
    return _lines(first), _lines(second)


def test_every_line_has_exactly_its_keys(exported: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    explanations, scores = exported
    assert {tuple(row) for row in explanations} == {EXPLANATION_KEYS}
    assert {tuple(row) for row in scores} == {SCORE_KEYS}
    assert len(explanations) == len(scores) == 4 * 3


def test_a_real_arm_has_no_control_and_an_explainerless_control_no_explainer(
    exported: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    for rows in exported:
        arms = {(row["explainer"], row["control"]) for row in rows}
        assert arms == {("a", None), ("a", "shuffled"), (None, "generic"), (None, "none")}


def test_scores_hold_metrics_as_an_object_and_counts(
    exported: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    _, scores = exported
    for row in scores:
        assert (row["run"], row["coder"], row["hookpoint"]) == ("t", "words", "model.layers.1")
        assert (row["scorer"], row["scorer_model"], row["prompt"]) == ("detection", "lexical/rules", "default")
        if row["status"] == "ok":
            assert (row["n_pos"], row["n_neg"], row["failed"]) == (10, 10, 0)
            assert {"balanced_accuracy", "f1", "auroc"} <= set(row["metrics"])
            assert 0 <= row["metrics"]["balanced_accuracy"] <= 1
        else:
            assert (row["metrics"], row["n_pos"], row["n_neg"]) == ({}, 0, 0)
    assert {row["status"] for row in scores if row["latent"] == 42} >= {"too_few_examples"}


def test_explanations_hold_text_status_and_usage(
    exported: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    explanations, _ = exported
    for row in explanations:
        if row["control"] == "none" or row["status"] != "ok":
            assert row["text"] is None
        else:
            assert row["text"]
        if row["control"] is None and row["status"] == "ok":
            assert row["usage"]["requests"] >= 0


def test_text_of_any_kind_survives_on_one_line(tmp_path: Path) -> None:
    text = 'a\nb\u2028c "d" \x1b \ud83d né'
    row = dict.fromkeys(EXPLANATION_KEYS) | {"text": text}
    path, _ = export(Made([row, row], []), tmp_path)
    assert path.read_text(encoding="ascii").count("\n") == 2
    assert [found["text"] for found in _lines(path)] == [text, text]


def test_what_json_cannot_say_is_refused_and_not_written_as_nan(tmp_path: Path) -> None:
    row = dict.fromkeys(SCORE_KEYS) | {"metrics": {"f1": float("nan")}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        export(Made([], [row]), tmp_path)
