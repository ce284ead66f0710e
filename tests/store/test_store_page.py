"""The page on stores says what is so: its example runs, and its table of files is the whole of a store."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.store import CoderFrame, ManifestFrame, Rows, Statistics, Store, StoreWriter, Vocabulary

PAGE = (Path(__file__).parents[2] / "docs" / "store.md").read_text("utf-8")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that the page speaks of, in the working directory."""
    monkeypatch.chdir(tmp_path)
    coder = CoderFrame("sae", 400, "block", None, np.ones((400, 2)), rows=True)
    frame = ManifestFrame(model="none", corpus={}, context=32)
    part = Rows(np.arange(33), np.arange(32) % 3 + 310, np.linspace(1, 2, 32))
    with StoreWriter.create(Path("stores/demo"), frame, Vocabulary(("a", "b")), [coder]) as writer:
        writer.append(np.ones((1, 32), dtype=np.uint32), np.zeros((1, 32), dtype=np.int32), {"sae": part})
        return writer.finish()


def test_the_example_runs(store: Store) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "docs/store.md", "exec"), names)
    assert names["strongest"] == 31
    assert names["dead"] == 397 / 400
    assert names["total"] == pytest.approx(np.linspace(1, 2, 32).astype(np.float16).astype(float).sum())


def test_every_statistic_is_explained() -> None:
    table = PAGE.split("## Statistics")[1].split("## Rows")[0]
    for name in (name for name in vars(Statistics) if not name.startswith("_")):
        assert re.search(rf"`{name}\b", table), name


def test_every_file_is_listed(store: Store) -> None:
    listed = PAGE.split("## On disk")[1].split("```")[1]
    for name in store.manifest.files:
        *folders, file = name.removeprefix("coders/sae/").split("/")
        assert file in listed or f"{folders[-1]}/*.npy" in listed, name
