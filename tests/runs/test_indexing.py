"""The embedding index of a run: built before it, from a real embedder, and kept beside the store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.load import load
from harness.errors import TaskError, UserError
from harness.examples.draw import LatentExamples
from harness.runs.progress import Silent
from harness.runs.running import conduct
from harness.runs.trying import attempt
from harness.store import Store
from harness.task import load_task

pytestmark = pytest.mark.anyio


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def task(write_task: Callable[..., Path], words_store: Path, embedder: Path, tmp_path: Path) -> Callable[..., Any]:
    """A task with the rung, on a copy of the words store."""
    shutil.copytree(words_store, tmp_path / "store")

    def make(name: str = f"local/{embedder}", *overrides: str) -> Any:
        scored = {"activating": 10, "non_activating": 10, "rungs": ["random", "semantic"], "embedder": name}
        path = write_task(store={"path": str(tmp_path / "store")}, examples={"scored": scored})
        return load_task(path, overrides)

    return make


async def test_a_run_builds_the_index_once_and_scores_the_rung(task: Callable[..., Any], tmp_path: Path) -> None:
    first, again = Notes(), Notes()
    await conduct(task(), tmp_path / "run", progress=first)
    assert set(load(tmp_path / "run").scores()["rung"]) == {"random", "semantic"}
    assert [note for note in first.notes if "embedded" in note][
        -1
    ] == "embedded 112 of 112 windows for the rung semantic"
    await conduct(task(), tmp_path / "other", progress=again)
    assert not [note for note in again.notes if "embedded" in note]


async def test_one_latent_is_tried_with_the_rung(task: Callable[..., Any], tmp_path: Path) -> None:
    examples, attempts = await attempt(task(), 3, None, tmp_path / "run", Silent())
    assert isinstance(examples, LatentExamples)
    assert [one.rung for one in examples.scored] == ["random", "semantic"]
    assert [judged.examples.rung for judged in attempts[0].judged] == ["random", "semantic"]


async def test_what_is_no_embedder_is_told_before_anything_starts(task: Callable[..., Any], tmp_path: Path) -> None:
    for name, said in (
        ("lexical/rules", "examples.scored.embedder: lexical/rules is no embedder: name one such as local/path"),
        ("nobody/x", "examples.scored.embedder: .*nobody"),
    ):
        with pytest.raises(UserError, match=said):
            await conduct(task(name), tmp_path / "run")
    assert list(Store.open(tmp_path / "store").path.glob("semantic*")) == []


def test_the_rung_needs_an_embedder(task: Callable[..., Any]) -> None:
    with pytest.raises(TaskError, match='needs an embedder, such as embedder = "local/'):
        load_task(task().source, ('examples.scored.embedder=""',))
