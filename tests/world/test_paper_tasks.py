"""The paper's tasks say what they have to: every table is valid, and those at fixture scale check out whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harness import registry
from harness.resources import folder
from harness.runs.running import check
from harness.task import load_task
from harness.validation import validated

TASKS = sorted((folder("tasks") / "paper").glob("*.toml"))
PAGE = (Path(__file__).parents[2] / "docs" / "paper.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_every_table_of_a_task_is_valid(path: Path) -> None:
    task = load_task(path)
    for group, items in (("explainers", task.explainer), ("scorers", task.scorer)):
        for item in items:
            validated(registry.load(group, item.kind).Settings, item.options, f"{path}: {item.name}")


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_the_page_tells_of_every_task(path: Path) -> None:
    assert f"tasks/paper/{path.name}" in PAGE


@pytest.mark.parametrize("name", ["choices", "judges", "layers", "samplers", "scorers"])
def test_fixture_scale_needs_nothing_from_elsewhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # models of one's own are named from the working directory
    monkeypatch.chdir(folder("tasks").parent)
    asyncio.run(check(load_task(folder("tasks") / "paper" / f"{name}.toml")))
