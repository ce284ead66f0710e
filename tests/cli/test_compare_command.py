"""`harness compare` as people use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.compare import compare


@pytest.fixture
def run(harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path) -> Callable[..., None]:
    (tmp_path / "mine.jsonl").write_text(
        "\n".join(f'{{"latent": {latent}, "explanation": "the word w{latent // 2 * 2}"}}' for latent in range(12))
    )

    def go(out: str, **tables: Any) -> None:
        task = {
            "name": out,
            "latents": {"ids": list(range(12)), "min_examples": 50},
            "explainer": [
                {"name": "rules", "kind": "contexts", "model": "lexical/rules"},
                {"name": "mine", "kind": "file", "path": "mine.jsonl"},
            ],
            "scorer": [
                {"name": name, "kind": name, "model": "lexical/rules", "batch": 10} for name in ("detection", "fuzzing")
            ],
            **tables,
        }
        assert harness("run", write_task(**task), "--out", out, "--no-report").code == 0

    return go


def test_tables_are_printed_with_outcomes_in_words(harness: Callable[..., Any], run: Callable[..., None]) -> None:
    run("one")
    said = harness("compare", "one")
    assert said.code == 0
    for words in (
        "balanced accuracy of detection: means over latents",
        "mine (shuffled)",
        "sign-flip test, p by Holm",
        "Spearman correlations of scorers",
        "Pearson correlations of scorers",
        "* fewer than 30 latents",
        "split-half reliability",
        "the best trivial answer (always, never, as often as it is) gets 0.500",
        "explainer rules",
        "scorer fuzzing",
        "free",
    ):
        assert words in said.out
    assert "differ" in said.out or "inconclusive" in said.out
    (row,) = (line for line in said.out.splitlines() if line.startswith("│ explainer mine"))
    assert "no model" in row


def test_json_holds_the_same_tables(harness: Callable[..., Any], run: Callable[..., None], tmp_path: Path) -> None:
    run("one")
    told = json.loads(harness("compare", "one", "--json", "--scorer", "fuzzing", "--metric", "f1").out)
    assert (told["runs"], told["scorer"], told["metric"]) == (["one"], "fuzzing", "f1")
    found = compare(tmp_path / "one", scorer="fuzzing", metric="f1")
    for name in ("arms", "differences", "correlations", "reliabilities", "costs"):
        table = getattr(found, name)
        assert len(told[name]) == len(table) > 0
        assert set(told[name][0]) == set(table.columns)
    assert [row["mean"] for row in told["arms"]] == pytest.approx(found.arms["mean"].tolist())
    # too few latents for an interval: null, and no NaN, which is not JSON
    assert told["arms"][0]["mean_low"] is None


def test_two_runs_are_compared_by_their_names(harness: Callable[..., Any], run: Callable[..., None]) -> None:
    run("one", controls=[])
    run("two", controls=[])
    said = harness("compare", "one", "two")
    assert said.code == 0
    assert "one: rules" in said.out
    assert "two: mine" in said.out
    assert "inconclusive" in said.out or "equivalent" in said.out


def test_runs_that_do_not_match_are_refused_in_one_sentence(
    harness: Callable[..., Any], run: Callable[..., None]
) -> None:
    run("one")
    run("two", seed=3)
    said = harness("compare", "one", "two")
    assert (said.code, said.out) == (2, "")
    assert said.err == ("harness: two cannot be compared with one: they were scored on other examples (seed: 0 -> 3)\n")


def test_mistakes_are_told(harness: Callable[..., Any], run: Callable[..., None]) -> None:
    run("one")
    said = harness("compare", "elsewhere")
    assert (said.code, said.err) == (
        2,
        "harness: elsewhere: no run directory (there is no journal.sqlite in it)\n",
    )
    assert harness("compare", "one", "--scorer", "nobody").err == (
        'harness: one has no scorer "nobody"; it has detection, fuzzing\n'
    )
