"""Every block on every page: tables and commands are such as there are, and Python is run, here or where it is said."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shutil
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import harness
from harness import registry
from harness.analysis.analyse import TABLES
from harness.cli import app
from harness.runs.referring import referred
from harness.task import Task
from harness.validation import validated
from tests.docs.pages import DOCS, PAGES, blocks, commands

ROOT = DOCS.parent
NAMES = [page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES]
# whose blocks have tests of their own, which take blocks by their titles or all of a language
RUN = {
    "agent": "tests/runs/test_agent.py",
    "explainers": "tests/docs/test_explainers.py",
    "extending": "tests/docs/test_extending.py",
    "journal": "tests/docs/test_journal.py",
    "method": "tests/docs/test_method.py",
    "providers": "tests/clients/test_entry_point.py",
    "scaling": "tests/scale/test_ray.py",  # the same call; the page's has four workers
    "self": "tests/explainers/test_self.py",
    "store": "tests/store/test_store_page.py",
    "testing": "tests/testing/test_page.py",
    "tutorial": "tests/docs/test_tutorial.py",
}
# whose Python is run below on runs of the demo
HERE = ("analysis", "examples", "spending", "statistics", "steering", "variance")
DESIGN = "draws=4, explainer_samples=4, scorer_samples=4"
TASK: dict[str, Any] = {
    "name": "t",
    "subject": {"model": "m", "corpus": {"path": "text.jsonl"}},
    "latents": {"sample": 1},
    "coder": [{"name": "sae", "hookpoint": "model.layers.1", "path": "sae"}],
    "explainer": [{"name": name, "kind": "contexts", "model": "lexical/rules"} for name in ("contexts", "mini")],
    "scorer": [{"name": "detection", "kind": "detection", "model": "lexical/rules"}],
}


def test_titled_blocks_are_taken_by_a_test() -> None:
    for name in NAMES:
        for block in blocks(name):
            if block.title:
                assert f'"{block.title}"' in (ROOT / RUN[name]).read_text(encoding="utf-8"), (name, block.title)


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, block.text) for name in NAMES for block in blocks(name, "toml") if not block.title],
)
def test_a_table_has_keys_that_there_are(name: str, text: str) -> None:
    table = tomllib.loads(text)
    base = {key: value for key, value in TASK.items() if not ("store" in table and key == "subject")}
    beside = {key: base[key] + table[key] for key in ("coder", "explainer", "scorer") if key in table}
    task = validated(Task, {**base, **table, **beside}, name)
    for arm in task.explainer:
        validated(registry.load("explainers", arm.kind).Settings, referred(task, arm), arm.name)
    for arm in task.scorer:
        validated(registry.load("scorers", arm.kind).Settings, arm.options, arm.name)
    for model, settings in task.model.items():
        validated(registry.load("providers", model.partition("/")[0]).Settings, settings, model)


@pytest.mark.parametrize("name", NAMES)
def test_commands_have_the_verbs_and_options_that_there_are(name: str) -> None:
    for words in commands(name):
        command, rest = typer.main.get_command(app), words
        while (below := getattr(command, "commands", None)) and rest and not rest[0].startswith("-"):
            command, rest = below[rest[0]], rest[1:]
        known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}
        assert {word for word in rest if word.startswith("-")} <= known | {"--help"}, words
        for option, value in pairwise(words):
            assert option != "--table" or value in TABLES, words


def test_all_python_is_run_somewhere() -> None:
    with_python = {name for name in NAMES if blocks(name, "python")}
    assert with_python == {name for name in RUN if name != "tutorial"} | {"batches", *HERE}
    assert all((ROOT / file).is_file() for file in RUN.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with the runs that pages speak of, each the demo's under another name, and replicates."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in (
            "run demo --limit 6 --no-report",
            "variance planted --limit 2 --draws 2 --explainer-samples 1 --scorer-samples 1",
        ):
            result = CliRunner().invoke(app, line.split())
            assert result.exit_code == 0, result.output
        for name in ("top", "random", "mini", "sonnet", "planted"):
            shutil.copytree("runs/demo", f"runs/{name}")
        yield folder


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", HERE)
def test_python_of_a_page_works_on_a_run(folder: Path, name: str) -> None:
    (demo,) = (path for path in (folder / "stores").iterdir() if "sae" in {one.name for one in path.glob("coders/*")})
    names: dict[str, Any] = {"harness": harness}
    for block in blocks(name, "python"):
        # the id of a store is another one on another machine, and a page's design of four of each takes minutes
        text = re.sub(r'(?<=")stores/[^"]+', f"stores/{demo.name}", block.text)
        exec(text.replace(DESIGN, "draws=2, explainer_samples=1, scorer_samples=1, limit=2"), names)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["analysis", "statistics"])
def test_commands_of_a_page_work_on_a_run(folder: Path, name: str) -> None:
    for words in commands(name, sentences=False):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (words, result.output)


def test_the_fake_provider_of_batches_is_made_as_shown() -> None:
    (block,) = blocks("batches", "python")
    made = eval(compile(block.text, "batches", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {})
    assert inspect.iscoroutine(made)
    asyncio.run(made)
