"""The page on the journal: it names the tables and columns that there are, and its SQL agrees with the run's tables."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest

from harness.analysis.load import load
from harness.runs.batch_rows import State
from harness.runs.running import conduct
from harness.runs.schema import SCHEMA
from harness.task import load_task
from harness.testing import FakeProvider
from harness.values import FailureStatus
from tests.docs.pages import page, titled

PAGE = page("journal")
TABLES = PAGE.partition("## Tables")[2].partition("## By SQL")[0]


block = partial(titled, "journal")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, words_store: Path) -> Path:
    """A small run by a provider that fails now and then, with prices."""
    folder = tmp_path_factory.mktemp("journal")
    task = f"""
name = "mini"
[store]
path = "{words_store}"
[[coder]]
name = "words"
kind = "planted"
[latents]
sample = 3
min_examples = 50
[examples.scored]
activating = 10
non_activating = 10
[[explainer]]
name = "a"
kind = "contexts"
model = "openai-api/lab/m"
[[scorer]]
name = "detection"
kind = "detection"
model = "openai-api/lab/m"
[model."openai-api/lab/m"]
price = {{ input = 1.0, output = 10.0 }}
"""
    (folder / "task.toml").write_text(task)

    async def work(patch: pytest.MonkeyPatch) -> None:
        async with FakeProvider(faults=["malformed"]) as provider:
            patch.setenv("LAB_BASE_URL", provider.openai_url)
            await conduct(load_task(folder / "task.toml"), folder / "run")

    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(work(patch))
    return folder / "run"


def asked(run: Path, title: str) -> pd.DataFrame:
    """What a query of the page finds."""
    with closing(sqlite3.connect(f"file:{run / 'journal.sqlite'}?mode=ro", uri=True)) as journal:
        return pd.read_sql_query(block(title), journal)


def test_every_table_and_column_is_on_the_page_and_no_other(run: Path) -> None:
    parts = dict(re.findall(r"^`(\w+)`: (.*?)(?=^`\w+`: |\Z)", TABLES, re.MULTILINE | re.DOTALL))
    with closing(sqlite3.connect(run / "journal.sqlite")) as journal:
        (schema,) = journal.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        names = {name for (name,) in journal.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert set(parts) == names
        for name, text in parts.items():
            columns = {row[1] for row in journal.execute(f"PRAGMA table_info({name})")}
            cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
            told = set(re.findall(r"`(\w+)`", " ".join(cells) if cells else text))
            assert told == columns if cells else told >= columns, name
    assert int(schema) == SCHEMA == 3


def test_every_status_and_state_is_on_the_page() -> None:
    assert {one for one in get_args(FailureStatus) if f"`{one}`" not in TABLES} == set()
    assert {one for one in get_args(State) if f"`{one}`" not in TABLES} == set()


def test_the_directory_has_what_the_page_says(run: Path) -> None:
    named = set(re.findall(r"`([\w.-]+?)/?`", PAGE.partition("## How far")[0]))
    assert {path.name for path in run.iterdir() if not path.name.startswith("journal.sqlite-")} <= named


def test_the_queries_tell_what_the_runs_own_tables_do(run: Path) -> None:
    own = load(run)
    ledger, scores = own.ledger(), own.scores()
    arms = asked(run, "arms")
    assert arms["units"].sum() == len(scores) + len(own.explanations().query("control != 'none'"))
    assert arms.query("name == 'detection'")["units"].sum() == len(scores) == 9
    costs = asked(run, "costs")
    assert set(costs["outcome"]) > {"ok"}
    assert costs["attempts"].sum() == len(ledger)
    assert costs["dollars"].sum() == pytest.approx(ledger["dollars"].sum(), abs=1e-5)
    by_latent = asked(run, "latents").set_index("latent")
    assert by_latent["tokens"].to_dict() == ledger.groupby("latent")["tokens"].sum().to_dict()
    assert by_latent["tokens"].is_monotonic_decreasing
    (sizes,) = asked(run, "sizes").to_dict("records")
    assert (sizes["scorer"], sizes["scores"], sizes["replies"]) == ("detection", 9, 4)  # 20 examples, five a prompt
    (task,) = asked(run, "tasks").to_dict("records")
    assert (task["number"], task["task"]) == (1, "mini")


def test_the_blobs_are_read_as_shown(run: Path) -> None:
    names: dict[str, Callable[[Path], list[tuple[int, Any]]]] = {}
    exec(block("blobs"), names)
    own = load(run)
    told = own.explanations()
    told = told[told["control"].fillna("") != "none"]
    assert sorted(names["explanations"](run / "journal.sqlite")) == sorted(
        zip(told["latent"], told["text"], strict=True)
    )
    scores = own.scores()
    expected = sorted((row["latent"], row["metrics"]["accuracy"]) for row in scores.to_dict("records"))
    assert sorted(names["rights"](run / "journal.sqlite")) == expected
