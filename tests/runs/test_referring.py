"""Explainers that name others of their task, from the task file to the arms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.clients.models import Models
from harness.errors import TaskError
from harness.runs.running import conduct
from harness.runs.units import Plan, make_plan
from harness.task import load_task

A = {"name": "a", "kind": "contexts", "model": "lexical/rules"}
BEST = {"name": "best", "kind": "best-of", "candidates": ["a"], "scorer": "detection"}


def plan(write_task: Callable[..., Path], *explainers: dict[str, Any]) -> Plan:
    return make_plan(load_task(write_task(explainer=list(explainers))), Models({}, lambda client: client), "s")


def test_a_name_stands_for_the_table_of_that_name(write_task: Callable[..., Path]) -> None:
    scorer = {"kind": "detection", "model": "lexical/rules", "batch": 10}
    written = {**BEST, "candidates": [{"kind": "contexts", "model": "lexical/rules"}], "scorer": scorer}
    named, inline = (plan(write_task, A, best).explainers["best"].identity for best in (BEST, written))
    assert named == inline
    other = plan(write_task, {**A, "prompt": "short"}, BEST).explainers["best"].identity
    assert other != named
    again = plan(write_task, {**A, "sample": 3}, BEST).explainers["best"].identity
    assert again["candidates"][0]["sample"] == 3


def test_names_may_stand_in_tables_inside_tables(write_task: Callable[..., Path]) -> None:
    inner = {"kind": "clusters", "explainer": "a"}
    made = plan(write_task, A, {**BEST, "candidates": [inner, "a"]}).explainers["best"].identity
    assert made["candidates"][0]["explainer"] == made["candidates"][1]


@pytest.mark.parametrize(
    ("explainer", "message"),
    [
        (
            {**BEST, "scorer": "nobody"},
            r'explainer\.best: scorer: no \[\[scorer\]\] has the name "nobody"; there are: d',
        ),
        ({**BEST, "candidates": ["b"]}, r'candidates: no \[\[explainer\]\] has the name "b"; there are: a, best'),
        ({**BEST, "candidates": ["best"]}, r"candidates: best names best: no explainer can be a part of itself"),
        ({**BEST, "candidates": []}, r"explainer\.best: candidates: "),
        ({**BEST, "candidates": [{"kind": "contexts"}]}, r"explainer\.best: candidates\.1: model: is missing"),
        ({**BEST, "candidates": [{"model": "lexical/rules"}]}, r"explainer\.best: candidates\.1\.kind: is missing"),
        (
            {**A, "name": "b", "kind": "contrastive", "rungs": ["neighbour", "semantic"]},
            r'explainer\.b\.rungs: coder words has no windows of "neighbour" to show; there are "random", "same-token"',
        ),
    ],
)
async def test_what_is_wrong_is_told_before_anything_is_asked(
    write_task: Callable[..., Path], tmp_path: Path, explainer: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        await conduct(load_task(write_task(explainer=[A, explainer])), tmp_path / "run")


pytestmark = pytest.mark.anyio
