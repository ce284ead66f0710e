"""The page on explainers: its explainer works as it stands, and its tables name what there is."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import registry
from harness.analysis.load import load
from harness.questions.prompts import variants
from harness.runs.running import conduct
from harness.task import load_task
from tests.docs.pages import package, page, titled

PAGE = page("explainers")


def test_an_explainer_of_ones_own_runs_beside_others_and_inside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_task: Callable[..., Path]
) -> None:
    code = titled("explainers", "loudest.py")
    body = code[code.index("class Loudest") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 20
    package(tmp_path, "loudest", code, titled("explainers", "pyproject.toml"))
    monkeypatch.syspath_prepend(tmp_path)
    explainers = [
        {"name": "mine", "kind": "loudest", "most": 1},
        {"name": "best", "kind": "best-of", "candidates": ["mine"], "scorer": "detection"},
    ]
    asyncio.run(conduct(load_task(write_task(explainer=explainers)), tmp_path / "run"))
    own = load(tmp_path / "run").explanations()
    own = own[own["control"].isna()]
    assert set(own["explainer"]) == {"mine", "best"}
    for row in own.to_dict("records"):
        assert re.fullmatch(rf'the tokens " ?w{row["latent"]}"', row["text"])
    sys.modules.pop("loudest")


def test_every_kind_and_variant_is_in_its_table() -> None:
    kinds = set(re.findall(r"^\| `([\w-]+)` \|", PAGE.partition("## Explainers made")[0], re.MULTILINE))
    assert kinds >= {name for name in registry.BUILT_IN["explainers"] if name != "self"}
    prompts = PAGE.partition("## Prompts")[2].partition("## One of")[0]
    assert {name for name in variants("explain") if f"`{name}`" not in prompts} == set()
    assert {name for name in variants("detect") if f"`{name}`" not in prompts} == set()
