"""`harness analyse` as people use it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.analyse import TABLES, analyse


@pytest.fixture
def run(harness: Callable[..., Any], write_task: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    def go(out: str, text: str = "a | b", **tables: Any) -> Path:
        lines = [json.dumps({"latent": latent, "explanation": text}) for latent in range(4)]
        (tmp_path / "mine.jsonl").write_text("\n".join(lines))
        explainer = [
            {"name": "rules", "kind": "contexts", "model": "lexical/rules"},
            {"name": "mine", "kind": "file", "path": "mine.jsonl"},
        ]
        task = write_task(name=out, latents={"ids": [0, 1, 2, 3], "min_examples": 50}, explainer=explainer, **tables)
        assert harness("run", task, "--out", out, "--no-report").code == 0
        return tmp_path / out

    return go


def test_a_table_is_printed_for_a_reader(harness: Callable[..., Any], run: Callable[..., Path]) -> None:
    run("one")
    said = harness("analyse", "one", "--table", "costs")
    assert said.code == 0
    head, *rows = said.out.splitlines()
    assert head.split()[:3] == ["run", "stage", "name"]
    assert len(rows) == 3
    assert rows[1].split()[:3] == ["one", "explain", "mine"]


def test_a_row_too_wide_to_read_is_a_list(harness: Callable[..., Any], run: Callable[..., Path]) -> None:
    run("one")
    said = harness("analyse", "one")
    first = said.out.split("\n\n")[0].splitlines()
    assert ["run", "one"] in [line.split() for line in first]
    # nothing is said of what is missing
    assert not any(line.split()[0] == "control" for line in first)


def test_csv_is_read_back_as_it_was(harness: Callable[..., Any], run: Callable[..., Path]) -> None:
    path = run("one")
    said = harness("analyse", "one", "--table", "latents", "--format", "csv")
    rows = list(csv.DictReader(StringIO(said.out)))
    frame = analyse(path, table="latents")
    assert [int(row["latent"]) for row in rows] == frame["latent"].tolist()
    assert [float(row["detection"]) for row in rows] == frame["detection"].tolist()
    assert rows[-1]["explanation"] == "a | b"


def test_json_has_null_where_nothing_is_known(harness: Callable[..., Any], run: Callable[..., Path]) -> None:
    run("one")
    rows = json.loads(harness("analyse", "one", "--table", "arms", "--format", "json").out)
    assert {row["mean_low"] for row in rows} == {None}
    assert {row["latents"] for row in rows} == {4}


def test_bars_and_line_breaks_do_not_break_a_markdown_table(
    harness: Callable[..., Any], run: Callable[..., Path]
) -> None:
    run("one", text="a | b\nc")
    said = harness("analyse", "one", "--table", "explanations", "--format", "markdown")
    lines = said.out.splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines} == {lines[0].count("|")}
    assert any("a \\| b" in line for line in lines)


def test_a_table_is_written_into_a_file(harness: Callable[..., Any], run: Callable[..., Path], tmp_path: Path) -> None:
    run("one")
    said = harness("analyse", "one", "--table", "scores", "--format", "csv", "--out", "new/scores.csv")
    assert (said.code, (tmp_path / "new" / "scores.csv").read_text().count("\n")) == (0, 21)  # 5 arms of 4 latents


def test_two_runs_make_one_table(harness: Callable[..., Any], run: Callable[..., Path]) -> None:
    run("one")
    run("two", seed=3)
    rows = json.loads(harness("analyse", "one", "two", "--table", "firing", "--format", "json").out)
    assert {(row["run"], row["seed"]) for row in rows} == {("one", 0), ("two", 3)}


def test_a_mistake_says_what_there_is(harness: Callable[..., Any], run: Callable[..., Path]) -> None:
    run("one")
    said = harness("analyse", "one", "--table", "none")
    assert said.code == 2
    assert said.err.strip() == f'harness: there is no table "none"; there are: {", ".join(TABLES)}'


def test_the_help_names_every_table(harness: Callable[..., Any]) -> None:
    said = " ".join(harness("analyse", "--help").out.split())
    assert ", ".join(TABLES) in said
