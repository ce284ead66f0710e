"""A judge's sheet: figures against hand-worked and independent ones, thresholds, and which sheet is whose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import brier_score_loss, roc_auc_score

from harness.errors import RunError
from harness.judges.items import Group, PlantedSet
from harness.judges.sheet import (
    SHEET,
    Difference,
    Rate,
    Sheet,
    Trial,
    assess,
    find_sheet,
    read_sheets,
    reasons,
    write_sheets,
)
from harness.scorers.verdicts import Verdicts
from harness.values import Example, Explanation, FailureStatus, Passage, ScoredSet, Usage

TRUTH = [1, 0, 1, 0]


def planted(group: Group, holds: list[int], truth: list[int] = TRUTH) -> PlantedSet:
    """A set of windows of two tokens; the explanation holds on the first token of some."""
    passages = [Passage((f"w{at} ", "x")) for at in range(len(truth))]
    examples = [
        Example(passage, np.array([fires, 0], np.float32), rung=None if fires else "random")
        for passage, fires in zip(passages, truth, strict=True)
    ]
    mask = np.array([[bool(one), False] for one in holds])
    return PlantedSet(group, "own", "told", Explanation("words"), ScoredSet("random", tuple(examples)), mask)


def trial(
    of: PlantedSet,
    labels: list[int],
    again: list[int] | None = None,
    order: list[int] | None = None,
    *,
    probabilities: list[float] | None = None,
    failures: list[FailureStatus | None] | None = None,
) -> Trial:
    examples = of.examples.examples
    passages = [example.passage for example in examples]
    first = Verdicts.of(examples, labels, probabilities, failures)
    if again is None:
        return Trial(of, passages, first)
    assert order is not None
    return Trial(of, passages, first, Verdicts.of([examples[at] for at in order], again), np.array(order))


def share(rate: Rate) -> tuple[int, int]:
    return rate.found, rate.count


def test_rates_of_a_hand_worked_judge() -> None:
    found = assess(
        [
            trial(planted("true", TRUTH), [1, 1, 0, 0]),  # one right 1, one wrong 1
            trial(planted("true", TRUTH), [1, 0, 1, 0]),  # all right
            trial(planted("near miss", [0, 1, 0, 0]), [1, 1, 0, 0]),  # misled once, and right where it holds
            trial(planted("wrong", [0, 1, 0, 0]), [0, 0, 0, 1]),  # says 1 where neither does
        ],
        2,
        Usage(),
    )
    assert found["items"] == found["asked"] == 16
    assert share(found["tpr"]) == (3, 4)
    assert share(found["fpr"]) == (1, 4)
    assert found["separation"].value == pytest.approx(0.5)
    near, wrong = found["near_miss"], found["wrong"]
    assert (share(near.firing), share(near.silent), share(near.holding)) == ((1, 2), (0, 1), (1, 1))
    assert (share(wrong.firing), share(wrong.silent), share(wrong.holding)) == ((0, 2), (1, 1), (0, 1))
    assert found["discernment"].value == pytest.approx(0.25)
    assert share(found["parse"]) == (8, 8)
    assert found["flips"] is None
    assert (found["auroc"], found["brier"]) == (None, None)


def test_a_rates_interval_is_jeffreys() -> None:
    found = assess([trial(planted("true", TRUTH), [1, 1, 0, 0])], 4, Usage())
    low, high = beta(1.5, 1.5).interval(0.95)
    assert found["tpr"].share == 0.5
    assert (found["tpr"].low, found["tpr"].high) == (pytest.approx(low), pytest.approx(high))


def test_flips_compare_each_window_with_itself() -> None:
    mine = planted("true", TRUTH)
    # asked again in the order 1, 2, 3, 0; window 1 is now called 0, all others as before
    same = trial(mine, [1, 1, 0, 0], [0, 0, 0, 1], [1, 2, 3, 0])
    found = assess([same], 2, Usage())
    assert share(found["flips"]) == (1, 4)
    assert found["asked"] == 8
    assert share(found["parse"]) == (4, 4)
    # rates are those of the first asking
    assert share(found["fpr"]) == (1, 2)


def test_what_failed_is_in_no_rate_and_counted_by_prompt() -> None:
    failed = trial(planted("true", TRUTH), [-1, -1, 1, 0], failures=["unparsable", "unparsable", None, None])
    found = assess([failed, trial(planted("true", TRUTH), [1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 2, 3])], 2, Usage())
    assert share(found["tpr"]) == (3, 3)
    assert share(found["parse"]) == (5, 6)
    assert found["failures"] == {"unparsable": 1}
    assert share(found["flips"]) == (0, 4)


def test_probabilities_give_auroc_and_brier_of_what_is_right_by_the_explanation() -> None:
    chance = np.random.default_rng(3)
    groups: list[tuple[Group, list[int]]] = [("true", TRUTH), ("near miss", [0, 1, 0, 0]), ("wrong", [0, 1, 0, 0])]
    trials, right, given = [], [], []
    for group, holds in groups:
        some = chance.random(4).round(1).tolist()
        trials.append(trial(planted(group, holds), [int(p > 0.5) for p in some], probabilities=some))
        right += holds
        given += some
    found = assess(trials, 4, Usage())
    assert found["auroc"] == pytest.approx(roc_auc_score(right, given))
    assert found["brier"] == pytest.approx(brier_score_loss(right, given))


def test_costs_are_those_of_all_replies() -> None:
    usage = Usage(input=100, cache_read=20, cache_write=3, output=7, requests=5, cost=0.25)
    found = assess([trial(planted("true", TRUTH), [1, 0, 1, 0])], 2, usage)
    assert (found["calls"], found["prompt_tokens"], found["reply_tokens"], found["dollars"]) == (5, 123, 7, 0.25)


def figures(**others: Any) -> dict[str, Any]:
    """What is just good enough, and what differs from it."""
    difference = {"value": 0.7, "low": 0.5, "high": 0.8}
    good = {"parse": (95, 100), "separation": difference, "discernment": {**difference, "low": 0.2}, "flips": (10, 100)}
    given = {**good, **others}
    masks = {name: np.arange(given[name][1]) < given[name][0] for name in ("parse", "flips") if given[name] is not None}
    return {
        "parse": Rate.of(masks["parse"]),
        "flips": None if given["flips"] is None else Rate.of(masks["flips"]),
        **{name: None if given[name] is None else Difference(**given[name]) for name in ("separation", "discernment")},
    }


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ({}, []),
        ({"flips": None}, []),
        ({"parse": (94, 100)}, ["the parse rate 0.94 is below 0.95"]),
        ({"separation": {"value": 0.7, "low": 0.49, "high": 0.8}}, ["TPR - FPR may be 0.49, below 0.5"]),
        ({"separation": None}, ["TPR - FPR is not known"]),
        (
            {"discernment": {"value": 0.3, "low": 0.1, "high": 0.5}},
            ["TPR minus the 1s on near misses may be 0.10, below 0.2"],
        ),
        ({"flips": (11, 100)}, ["0.11 of the verdicts change with the batch, more than 0.1"]),
        ({"parse": (0, 0)}, ["the parse rate nothing is below 0.95"]),
    ],
)
def test_each_threshold_that_is_not_met_is_told(others: dict[str, Any], told: list[str]) -> None:
    assert reasons(figures(**others)) == told


def sheet(identity: dict[str, Any] | None = None, date: str = "2026-05-01T10:00:00+00:00") -> Sheet:
    found = assess([trial(planted("true", TRUTH), [1, 0, 1, 0])], 2, Usage())
    identity = {"kind": "detection", "prompt": "aa", "model": ["x/y", {}, ""]} if identity is None else identity
    return Sheet(
        scorer="detection", model="x/y", prompt="default", identity=identity, date=date, seed=0, drawn="d", **found
    )


def test_sheets_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / SHEET
    one, other = sheet(), sheet({"prompt": "bb", "model": ["x/y", {"t": (1, 2)}, ""]})
    write_sheets(path, [one])
    write_sheets(path, [other])
    assert read_sheets(path) == (one, other.model_copy(update={"identity": json.loads(json.dumps(other.identity))}))
    assert not list(tmp_path.glob("*.tmp"))


def test_a_new_sheet_replaces_that_of_just_the_same_judge(tmp_path: Path) -> None:
    path = tmp_path / SHEET
    write_sheets(path, [sheet(), sheet({"prompt": "bb"})])
    write_sheets(path, [sheet(date="2026-06-01T10:00:00+00:00")])
    assert {(s.identity["prompt"], s.date[:7]) for s in read_sheets(path)} == {("aa", "2026-06"), ("bb", "2026-05")}


def test_only_a_sheet_of_just_this_judge_is_found_and_of_these_the_newest(tmp_path: Path) -> None:
    mine = {"kind": "detection", "prompt": "aa", "model": ["x/y", {}, ""], "batch": 5}
    for folder, date in (("judge-a", "2026-05-01T10:00:00+00:00"), ("judge-b", "2026-07-01T10:00:00+00:00")):
        (tmp_path / folder).mkdir()
        write_sheets(tmp_path / folder / SHEET, [sheet(mine, date)])
    (tmp_path / "other").mkdir()
    write_sheets(tmp_path / "other" / SHEET, [sheet({**mine, "batch": 7})])
    found = find_sheet(tmp_path, mine)
    assert found is not None
    assert found.date.startswith("2026-07")
    for change in ({"prompt": "ab"}, {"model": ["x/z", {}, ""]}, {"model": ["x/y", {"t": 1}, ""]}, {"batch": 6}):
        assert find_sheet(tmp_path, {**mine, **change}) is None
    assert find_sheet(tmp_path, {**mine, "batch": 7}) is None  # its folder is no judge's


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2, "sheets": []}', '{"format": 1, "sheets": [{}]}', "\xff"])
def test_a_file_that_holds_no_sheet_is_named_and_found_by_no_report(tmp_path: Path, content: str) -> None:
    path = tmp_path / "judge-x" / SHEET
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=SHEET):
        read_sheets(path)
    assert find_sheet(tmp_path, {}) is None
