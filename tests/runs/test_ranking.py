"""What arms are ranked by where the task names no figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

import harness
from harness.report.text import metric_name


@pytest.mark.parametrize(("kind", "metric"), [("simulation", "pearson"), ("detection", "balanced_accuracy")])
def test_arms_are_ranked_by_the_scorers_own_figure(
    write_task: Callable[..., Path], tmp_path: Path, kind: str, metric: str
) -> None:
    scorer: list[dict[str, Any]] = [{"name": "only", "kind": kind, "model": "lexical/rules"}]
    run = harness.run(write_task(scorer=scorer), tmp_path / "run")
    assert run.ranking == {"scorer": "only", "metric": metric, "margin": 0.02}
    assert run.summary()["mean"].notna().any()
    page = (tmp_path / "run" / "report" / "index.html").read_text("utf-8")
    assert escape(metric_name(metric)) in page
