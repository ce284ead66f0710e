"""Runs compared: matched on latents and examples, or refused with the reason."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.analysis.compare import compare
from harness.analysis.differences import differences
from harness.analysis.load import Run, load
from harness.analysis.tables import summary
from harness.errors import RunError, UserError
from harness.runs.running import conduct
from harness.task import load_task

RULES = {"name": "rules", "kind": "contexts", "model": "lexical/rules"}
DETECTION = {"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10}
FUZZING = {"name": "fuzzing", "kind": "fuzzing", "model": "lexical/rules", "batch": 10}
MINE = {"name": "mine", "kind": "file", "path": "mine.jsonl"}
LATENTS = {"ids": list(range(12)), "min_examples": 50}
EXAMPLES = {"scored": {"activating": 10, "non_activating": 10}}


@pytest.fixture
def ran(write_task: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Runs a task in a folder of its own; keywords replace its tables."""
    lines = (f'{{"latent": {latent}, "explanation": "the word w{latent + latent % 2}"}}' for latent in range(12))
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))

    def go(out: str, *overrides: str, **tables: Any) -> Path:
        task = {"name": out, "latents": LATENTS, "explainer": [RULES], "scorer": [DETECTION, FUZZING], **tables}
        asyncio.run(conduct(load_task(write_task(**task), overrides), tmp_path / out))
        return tmp_path / out

    return go


def test_one_runs_tables_are_its_own(ran: Callable[..., Path]) -> None:
    path = ran("one", explainer=[RULES, MINE])
    found, run = compare(path), load(path)
    assert (found.runs, found.scorer, found.metric, found.margin) == (("one",), "detection", "balanced_accuracy", 0.02)
    assert found.arms.equals(summary(run.scores(), "balanced_accuracy", "detection", seed=run.seed))
    assert found.differences.equals(differences(run.scores(), "balanced_accuracy", "detection", seed=run.seed))
    assert found.correlations[["a", "b"]].to_numpy().tolist() == [["detection", "fuzzing"]]
    assert found.reliabilities["scorer"].tolist() == ["detection", "fuzzing"]
    assert set(found.costs["name"]) == {"rules", "mine", "detection", "fuzzing"}
    assert found.notes == ()


def test_arms_of_two_runs_are_compared_on_the_same_windows(ran: Callable[..., Path]) -> None:
    first = ran("first", controls=[])
    second = ran("second", explainer=[MINE], latents={"ids": list(range(2, 12)), "min_examples": 50}, controls=["none"])
    found = compare(first, second)
    assert set(found.arms["run"]) == {"first", "second"}
    (row,) = found.differences[found.differences["control_b"].isna()].to_dict("records")
    assert {row["a"], row["b"]} == {"first: rules", "second: mine"}
    own = [run.scores() for run in (load(first), load(second))]
    values = [
        {
            latent: figures["balanced_accuracy"]
            for latent, figures in zip(frame["latent"], frame["metrics"], strict=True)
            if latent >= 2
        }
        for frame in (frame[(frame["scorer"] == "detection") & frame["control"].isna()] for frame in own)
    ]
    assert row["n"] == 10
    expected = np.mean([values[0][latent] - values[1][latent] for latent in range(2, 12)])
    assert abs(row["difference"]) == pytest.approx(abs(expected))
    # what makes them comparable: every common latent's verdicts are on the same windows in the same order
    for latent in range(2, 12):
        windows = [
            verdicts[(verdicts["latent"] == latent) & verdicts["control"].isna() & (verdicts["scorer"] == "detection")][
                ["context", "start", "truth"]
            ].to_numpy()
            for verdicts in (load(first).verdicts(), load(second).verdicts())
        ]
        assert len(windows[0]) == 20
        assert (windows[0] == windows[1]).all()


def test_a_rung_more_and_other_shown_examples_do_not_stand_in_the_way(ran: Callable[..., Path]) -> None:
    first = ran("first")
    rungs = {"scored": {"activating": 10, "non_activating": 10, "rungs": ["random", "same-token"]}}
    second = ran("second", examples={**rungs, "shown": {"count": 7}})
    assert len(compare(first, second).arms) > 0


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"seed": 1}, "they were scored on other examples (seed: 0 -> 1)"),
        (
            {"examples": {"scored": {"activating": 20, "non_activating": 20}}},
            "they were scored on other examples (examples.scored.activating: 10 -> 20; "
            "examples.scored.non_activating: 10 -> 20)",
        ),
        ({"examples": {**EXAMPLES, "window": 16}}, "they were scored on other examples (examples.window: 32 -> 16)"),
        (
            {"scorer": [{**DETECTION, "batch": 4}, FUZZING]},
            'scorer "detection" is not the same (batch: 10 -> 4), so a difference may be the judge\'s',
        ),
        ({"scorer": [FUZZING], "primary": {"scorer": "fuzzing"}}, 'it has no scorer "detection"; it has fuzzing'),
        ({"latents": {"ids": [40], "min_examples": 1}}, "they have no latent in common"),
    ],
)
def test_what_does_not_match_is_refused_with_the_reason(
    ran: Callable[..., Path], make_store: Callable[..., Any], tmp_path: Path, tables: dict, reason: str
) -> None:
    store = {"path": str(make_store(tmp_path / "wide", latents=44).path)}
    first = ran("first", store=store)
    second = ran("second", store=store, **tables)
    with pytest.raises(RunError, match=re.escape(f"{second} cannot be compared with {first}: {reason}")):
        compare(first, second, scorer="detection")


def test_other_stores_and_coders_are_refused(
    ran: Callable[..., Path], make_store: Callable[..., Any], tmp_path: Path
) -> None:
    first = ran("first")
    second = ran("second", store={"path": str(make_store(tmp_path / "other", seed=5).path)})
    with pytest.raises(RunError, match="they read different stores, so no latent has the same examples in both"):
        compare(first, second)


def test_runs_with_other_primary_figures_need_the_choice(ran: Callable[..., Path]) -> None:
    first, second = ran("first"), ran("second", primary={"scorer": "fuzzing"})
    with pytest.raises(UserError, match=r"first is ranked by balanced_accuracy of detection, .*say with --scorer"):
        compare(first, second)
    assert compare(first, second, scorer="fuzzing").scorer == "fuzzing"


def test_runs_of_one_name_are_told_apart_by_their_directories(ran: Callable[..., Path]) -> None:
    first, second = ran("first", name="same"), ran("second", name="same")
    assert compare(first, second).runs == (str(first), str(second))
    with pytest.raises(RunError, match="the run is given twice"):
        compare(first, first)


def test_the_same_explanations_of_two_runs_are_rows_of_one(ran: Callable[..., Path]) -> None:
    """Detection in one run and fuzzing in another correlate as they do in one run with both."""
    both = compare(ran("both", explainer=[RULES, MINE]))
    first = ran("first", explainer=[RULES, MINE], scorer=[DETECTION])
    second = ran(
        "second", explainer=[RULES, MINE], scorer=[DETECTION, FUZZING], latents={**LATENTS, "ids": [*range(12)]}
    )
    found = compare(first, second)
    assert found.correlations.equals(both.correlations)
    assert found.reliabilities.equals(both.reliabilities)
    assert both.correlations["n"].tolist() == [24]


def test_a_scorer_that_differs_is_left_out_of_the_correlations_and_told(ran: Callable[..., Path]) -> None:
    first, second = ran("first"), ran("second", scorer=[DETECTION, {**FUZZING, "batch": 3}])
    found = compare(first, second)
    assert found.notes == ('scorer "fuzzing" is not the same in first and second: it is in no correlation',)
    assert found.reliabilities["scorer"].tolist() == ["detection"]
    assert len(found.correlations) == 0


def test_metric_and_scorer_can_be_chosen(ran: Callable[..., Path]) -> None:
    path = ran("one", explainer=[RULES, MINE])
    assert (compare(path, metric="f1").scorer, compare(path, metric="f1").metric) == ("detection", "f1")
    assert compare(path, scorer="fuzzing").metric == "balanced_accuracy"
    with pytest.raises(UserError, match='has no scorer "nobody"; it has detection, fuzzing'):
        compare(path, scorer="nobody")
    with pytest.raises(UserError, match='there is no metric "niceness"'):
        compare(path, metric="niceness")
    with pytest.raises(UserError, match="at least one run"):
        compare()


def test_loaded_runs_are_taken_and_left_open(ran: Callable[..., Path]) -> None:
    run: Run = load(ran("one"))
    assert harness.compare(run).runs == ("one",)
    assert len(run.scores()) > 0
