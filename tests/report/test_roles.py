"""Who explains and judges, as a report's head says it: explainers made of others are told by what writes for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis.load import load
from harness.report.gather import gather
from harness.report.words import model_free_lines
from harness.runs.running import conduct
from harness.task import load_task
from harness.testing import FakeProvider

pytestmark = pytest.mark.anyio

FREE = {"name": "free", "kind": "contexts", "model": "lexical/rules"}
PAID = {"name": "paid", "kind": "contexts", "model": "openai-api/fake/m"}


async def test_explainers_made_of_others_are_told_by_the_models_that_write(
    write_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = {"name": "best", "kind": "best-of", "candidates": ["free"], "scorer": "detection"}
    both = {**best, "name": "both", "candidates": ["free", "paid"]}
    parted = {"name": "parted", "kind": "clusters", "explainer": "free"}
    task = write_task(explainer=[FREE, PAID, best, both, parted], latents={"sample": 2, "min_examples": 50})
    async with FakeProvider() as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        await conduct(load_task(task), tmp_path / "run")
    roles = gather(load(tmp_path / "run")).header.roles
    told = {line.name: (line.model, line.model_free) for line in roles if line.role == "explainer"}
    assert told == {
        "free": ("lexical/rules", True),
        "paid": ("openai-api/fake/m", False),
        "best": ("lexical/rules", True),
        "both": ("lexical/rules, openai-api/fake/m", False),
        "parted": ("lexical/rules", True),
    }
    assert "The explainers free, best and parted are the lexical baseline and no LLM." in model_free_lines(roles)
