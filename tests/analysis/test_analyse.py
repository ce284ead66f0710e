"""Tables of runs by name, against what the runs' own verdicts say when they are gone through one by one."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr

import harness
from harness.analysis.analyse import TABLES, analyse
from harness.analysis.load import Run, load
from harness.errors import RunError, UserError
from harness.runs.running import conduct
from harness.task import load_task

LATENTS = list(range(12))
# right for the even latents; of what is said of the others every second one is half right, the rest is wrong
SAID = {
    latent: f'the word " w{latent}"' if latent % 2 == 0 else f'" w{latent - latent % 4 + 1}" and " w{latent - 1}"'
    for latent in LATENTS
}
MINE = [json.dumps({"latent": latent, "explanation": words}) for latent, words in SAID.items()]
SCORERS = [
    {"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10},
    {"name": "fuzzing", "kind": "fuzzing", "model": "lexical/rules", "batch": 10},
    {"name": "simulation", "kind": "simulation", "model": "lexical/rules"},
    {"name": "intruder", "kind": "intruder", "model": "lexical/rules"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("analyse")


@pytest.fixture(scope="module")
def runs(folder: Path, make_store: Callable[..., Any]) -> dict[str, Run]:
    """Two runs that differ in their sampler."""
    import tomli_w

    store = make_store(folder / "store", contexts=400, words=[f"w{number}" for number in range(200)])
    (folder / "mine.jsonl").write_text("\n".join(MINE))
    found = {}
    for name, sampler in (("plain", "random"), ("strongest", "top")):
        task = {
            "name": name,
            "store": {"path": str(store.path)},
            "coder": [{"name": "words", "kind": "planted", "hookpoint": "model.layers.7.mlp"}],
            "latents": {"ids": LATENTS, "min_examples": 50},
            "examples": {
                "shown": {"sampler": sampler},
                "scored": {"activating": 10, "non_activating": 10, "rungs": ["random", "cooccurring"]},
            },
            "explainer": [
                {"name": "mine", "kind": "file", "path": "mine.jsonl"},
                {"name": "rules", "kind": "contexts", "model": "lexical/rules"},
            ],
            "scorer": SCORERS,
        }
        path = folder / f"{name}.toml"
        path.write_text(tomli_w.dumps(task))
        asyncio.run(conduct(load_task(path), folder / name))
        found[name] = load(folder / name)
    return found


def _only(frame: pd.DataFrame, **cells: Any) -> list[dict[Any, Any]]:
    return [
        row
        for row in frame.to_dict("records")
        if all((pd.isna(row[key]) if value is None else row[key] == value) for key, value in cells.items())
    ]


def test_the_share_of_right_verdicts_at_each_quantile_is_a_mean_over_latents(runs: dict[str, Run]) -> None:
    table, verdicts = analyse(runs["plain"], table="quantiles"), runs["plain"].verdicts()
    mine = {"explainer": "mine", "control": None, "scorer": "detection", "rung": "random"}
    lines = _only(table, **mine)
    assert [line["quantile"] for line in lines] == [*map(str, range(1, 11)), "silent", "all"]
    shares: dict[str, list[float]] = {}
    for latent in LATENTS:
        own = [row for row in _only(verdicts, latent=latent, **mine) if row["label"] >= 0]
        by = {"silent": [row for row in own if row["quantile"] == 0]}
        by |= {str(q): [row for row in own if row["quantile"] == q] for q in range(1, 11)}
        for name, rows in by.items():
            if rows:
                shares.setdefault(name, []).append(np.mean([row["label"] == row["truth"] for row in rows]).item())
    for line in lines[:-1]:
        assert line["value"] == pytest.approx(np.mean(shares[line["quantile"]]))
        assert line["latents"] == len(shares[line["quantile"]])
    # one half of each kind: balanced accuracy
    scores = [row["metrics"]["balanced_accuracy"] for row in _only(runs["plain"].scores(), **mine)]
    assert lines[-1]["value"] == pytest.approx(np.mean(scores))


def test_scorers_without_labels_have_their_own_figure_at_each_quantile(runs: dict[str, Run]) -> None:
    table = analyse(runs["plain"], table="quantiles", scorer="simulation")
    lines = _only(table, explainer="rules", control=None, rung="random")
    assert {line["figure"] for line in lines} == {"pearson"}
    metrics = [
        row["metrics"]
        for row in _only(runs["plain"].scores(), explainer="rules", control=None, scorer="simulation", rung="random")
    ]
    for line in lines:
        quantile = line["quantile"]
        values = [m["pearson"] if quantile == "all" else m["by_quantile"].get(quantile) for m in metrics]
        known = [value for value in values if value is not None]
        assert (line["latents"], line["value"]) == (len(known), pytest.approx(np.mean(known)))


def test_choices_among_windows_are_at_no_quantile(runs: dict[str, Run]) -> None:
    assert "intruder" not in set(analyse(runs["plain"], table="quantiles")["scorer"])
    assert "intruder" not in set(analyse(runs["plain"], table="calibration")["scorer"])


def test_an_arm_has_the_length_of_its_explanations_and_what_they_cost(runs: dict[str, Run]) -> None:
    table = analyse(runs["plain"], table="arms")
    (line,) = _only(table, explainer="rules", control=None, scorer="detection", rung="random")
    texts = [row["text"] for row in _only(runs["plain"].explanations(), explainer="rules", control=None)]
    assert line["words"] == np.median([len(text.split()) for text in texts])
    assert line["characters"] == np.median([len(text) for text in texts])
    assert line["dollars"] == 0.0
    assert math.isnan(line["gain_per_dollar"])
    assert (line["metric"], line["chance"]) == ("balanced_accuracy", 0.5)
    assert line["q25"] <= line["median"] <= line["q75"]
    (simulated,) = _only(table, explainer="rules", control=None, scorer="simulation", rung="random")
    assert (simulated["metric"], simulated["chance"]) == ("pearson", 0.0)
    assert set(table["rung"]) == {"random", "cooccurring"}
    assert next(iter(table["scorer"])) == "detection"


def test_dollars_of_an_explanation_and_what_they_buy(monkeypatch: pytest.MonkeyPatch, runs: dict[str, Run]) -> None:
    paid = runs["plain"].explanation_records()
    costs = iter(np.linspace(0.001, 0.005, 100).tolist())
    for row in paid:
        if row["usage"] is not None:
            row["usage"] = {**row["usage"], "requests": 1, "cost": next(costs)}
    monkeypatch.setattr(Run, "explanation_records", lambda self: paid)
    (line,) = _only(analyse(runs["plain"]), explainer="rules", control=None, scorer="detection", rung="random")
    spent = [row["usage"]["cost"] for row in paid if row["explainer"] == "rules" and row["control"] is None]
    assert line["dollars"] == pytest.approx(np.mean(spent))
    assert line["gain_per_dollar"] == pytest.approx((line["mean_at_chance"] - 0.5) / (1000 * np.mean(spent)))


def test_one_metric_leaves_scorers_without_it_out(runs: dict[str, Run]) -> None:
    assert set(analyse(runs["plain"], metric="f1")["scorer"]) == {"detection", "fuzzing"}
    with pytest.raises(UserError, match="simulation"):
        analyse(runs["plain"], scorer="simulation", metric="f1")


def test_layers_are_read_from_hookpoints(runs: dict[str, Run]) -> None:
    table = analyse(runs["plain"], table="layers")
    assert set(table["layer"]) == {7.0}
    arms = analyse(runs["plain"])
    for line in _only(table, explainer="mine", control=None, scorer="fuzzing"):
        (same,) = _only(arms, explainer="mine", control=None, scorer="fuzzing", rung="random")
        assert line["mean"] == same["mean"]


def test_bands_of_the_firing_rate_hold_every_latent_once(runs: dict[str, Run]) -> None:
    run = runs["plain"]
    table = _only(analyse(run, table="firing"), explainer="mine", control=None, scorer="detection")
    rates = {row["latent"]: row["base_rate"] for row in _only(run.explanations(), explainer="mine", control=None)}
    scores = {
        row["latent"]: row["metrics"]["balanced_accuracy"]
        for row in _only(run.scores(), explainer="mine", control=None, scorer="detection", rung="random")
    }
    assert sum(line["latents"] for line in table) == len(scores)
    for line in table:
        inside = [scores[latent] for latent in scores if line["rate_low"] <= rates[latent] <= line["rate_high"]]
        assert (line["latents"], line["mean"]) == (len(inside), pytest.approx(np.mean(inside)))
    expected = spearmanr([rates[latent] for latent in scores], list(scores.values())).statistic
    assert table[0]["spearman"] == pytest.approx(expected)


def test_a_tenth_of_the_probability_holds_the_verdicts_that_say_so(runs: dict[str, Run]) -> None:
    table = analyse(runs["plain"], table="calibration", scorer="detection")
    verdicts = _only(runs["plain"].verdicts(), explainer="mine", control=None, scorer="detection", rung="random")
    lines = _only(table, explainer="mine", control=None, rung="random")
    assert sum(line["verdicts"] for line in lines) == len(verdicts)
    for line in lines:
        # the last tenth holds 1
        inside = [v for v in verdicts if min(int(v["probability"] * 10 + 1e-6), 9) == round(line["low"] * 10)]
        assert line["verdicts"] == len(inside)
        assert line["activating"] == pytest.approx(np.mean([v["truth"] for v in inside]))
        assert line["probability"] == pytest.approx(np.mean([v["probability"] for v in inside]))
    brier = np.mean([(v["probability"] - v["truth"]) ** 2 for v in verdicts])
    assert [line["brier"] for line in lines] == [pytest.approx(brier)] * len(lines)


def test_disagreement_goes_by_ranks_and_shows_the_windows(runs: dict[str, Run]) -> None:
    run = runs["plain"]
    found = _only(analyse(run, table="disagreements"), explainer="mine", a="detection", b="simulation")
    scores = {
        name: {
            row["latent"]: row["metrics"][figure]
            for row in _only(run.scores(), explainer="mine", control=None, scorer=name, rung="random")
            if row["metrics"].get(figure) is not None
        }
        for name, figure in (("detection", "balanced_accuracy"), ("simulation", "pearson"))
    }
    shared = [latent for latent in scores["detection"] if latent in scores["simulation"]]
    ranks = [(rankdata([scores[name][latent] for latent in shared]) - 0.5) / len(shared) for name in scores]
    expected = dict(zip(shared, ranks[0] - ranks[1], strict=True))
    sizes = [abs(row["difference"]) for row in found]
    assert sizes == sorted(sizes, reverse=True)
    for row in found:
        assert row["difference"] == pytest.approx(expected[row["latent"]])
        assert row["explanation"] == SAID[row["latent"]]
    for row in found:
        for shown in row["evidence"]:
            assert shown["a"] != shown["b"]
            assert (f" w{row['latent']} " in f"{shown['text']} ") == shown["activating"]
    assert any(row["evidence"] for row in found)


def test_windows_judged_most_apart_come_first(runs: dict[str, Run]) -> None:
    run = runs["plain"]
    for row in analyse(run, table="disagreements").to_dict("records"):
        gaps = [abs(shown["a"] - shown["b"]) for shown in row["evidence"]]
        assert gaps == sorted(gaps, reverse=True)


def test_runs_beside_each_other_say_in_what_their_tasks_differ(runs: dict[str, Run], folder: Path) -> None:
    table = analyse(folder / "plain", folder / "strongest", table="quantiles", scorer="detection")
    assert list(table.columns[:2]) == ["run", "examples.shown.sampler"]
    told = {(row["run"], row["examples.shown.sampler"]) for row in table.to_dict("records")}
    assert told == {("plain", "random"), ("strongest", "top")}
    alone = analyse(folder / "strongest", table="quantiles", scorer="detection")
    mine = [row["value"] for row in _only(table, run="strongest")]
    assert mine == alone["value"].tolist()


def test_tables_of_pairs_match_the_runs_first(runs: dict[str, Run], folder: Path) -> None:
    both = analyse(folder / "plain", folder / "strongest", table="differences")
    assert both.equals(harness.compare(folder / "plain", folder / "strongest").differences)


# of explainers and scorers that this run has none of
ELSEWHERE = ("choices", "interventions", "pairs", "regressions")


@pytest.mark.parametrize("name", [name for name in TABLES if name not in ELSEWHERE])
def test_every_table_has_rows(name: str, runs: dict[str, Run]) -> None:
    assert len(analyse(runs["plain"], table=name))


def test_mistakes_name_what_there_is(runs: dict[str, Run], folder: Path) -> None:
    with pytest.raises(UserError, match='no table "arm"; there are: arms, differences'):
        analyse(runs["plain"], table="arm")
    with pytest.raises(UserError, match='no scorer "nobody"; it has detection'):
        analyse(runs["plain"], scorer="nobody")
    with pytest.raises(UserError, match="at least one"):
        analyse()
    with pytest.raises(RunError, match="no run directory"):
        analyse(folder)
