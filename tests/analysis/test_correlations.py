"""Correlations of scorers over rows of latents and arms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analysis.correlations import correlations, shared_figures
from harness.metrics import correlation

FIGURES = {"detection": "balanced_accuracy", "fuzzing": "balanced_accuracy", "simulation": "pearson"}


def _row(scorer: str, latent: int, value: float | None, **changes: Any) -> dict[str, Any]:
    base = {"run": "r", "coder": "sae", "latent": latent, "explainer": "mini", "control": None, "scorer": scorer}
    figures = {FIGURES.get(scorer, "accuracy"): value}
    return base | {"rung": "random", "status": "ok", "metrics": figures} | changes


def _scores(n: int = 40, arms: tuple[str, ...] = ("mini",), seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Three scorers' figures that go together, as a frame and as `[scorers, arms, latents]`."""
    rng = np.random.default_rng(seed)
    known = rng.normal(size=(1, len(arms), n))
    values = np.round(0.7 + 0.1 * (known + rng.normal(size=(3, len(arms), n))), 2)
    rows = [
        _row(scorer, latent, float(values[s, a, latent]), explainer=arm)
        for s, scorer in enumerate(FIGURES)
        for a, arm in enumerate(arms)
        for latent in range(n)
    ]
    return pd.DataFrame(rows), values


def test_every_pair_is_scipys_correlation_with_the_interval_over_latents() -> None:
    frame, values = _scores(40, ("mini", "big"))
    table = correlations(frame, FIGURES)
    pairs = [("detection", "fuzzing"), ("detection", "simulation"), ("fuzzing", "simulation")]
    assert list(zip(table["a"], table["b"], strict=True)) == pairs
    for row in table.to_dict("records"):
        x, y = (values[list(FIGURES).index(row[side])].ravel() for side in "ab")
        assert row["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)
        assert row["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic)
        assert (row["n"], row["latents"], row["few"]) == (80, 40, False)
        interval = correlation(x, y, np.tile(np.arange(40), 2)).interval
        assert interval is not None
        assert (row["spearman_low"], row["spearman_high"]) == pytest.approx((interval.low, interval.high))
    assert table["metric_b"].tolist() == ["balanced_accuracy", "pearson", "pearson"]


def test_few_latents_are_flagged_and_fewer_have_no_interval() -> None:
    some = correlations(_scores(29)[0], FIGURES)
    assert some["few"].all()
    assert some["spearman_low"].notna().all()
    # thirty-eight rows, but of nineteen latents
    few = correlations(_scores(19, ("mini", "big"))[0], FIGURES)
    assert few["n"].tolist() == [38] * 3
    assert few["few"].all()
    assert few["spearman"].notna().all()
    assert few[["spearman_low", "pearson_high"]].isna().all(axis=None)


def test_what_failed_or_is_not_defined_is_in_no_row() -> None:
    frame, _ = _scores(30)
    rows = frame.to_dict("records")
    rows[3] |= {"status": "refused", "metrics": {}}
    rows[34] |= {"metrics": {"balanced_accuracy": None}}
    table = correlations(pd.DataFrame(rows), FIGURES).set_index(["a", "b"])
    assert table["n"].tolist() == [28, 29, 29]


def test_controls_and_other_rungs_stay_out_unless_asked_for() -> None:
    frame, values = _scores(25)
    control = frame.assign(control="shuffled", metrics=[{"balanced_accuracy": 0.5, "pearson": 0.0}] * len(frame))
    hard = frame.assign(rung="neighbour", metrics=[{"balanced_accuracy": 0.1, "pearson": 0.0}] * len(frame))
    mixed = pd.concat([frame, control, hard])
    assert correlations(mixed, FIGURES).equals(correlations(frame, FIGURES))
    assert correlations(mixed, FIGURES, controls=True)["n"].tolist() == [50] * 3
    x, y = values[0, 0], values[1, 0]
    both = stats.spearmanr([*x, *[0.5] * 25], [*y, *[0.5] * 25]).statistic
    assert correlations(mixed, FIGURES, controls=True)["spearman"][0] == pytest.approx(both)


def test_a_scorer_without_explanations_stands_beside_each_arm_of_a_latent() -> None:
    frame, values = _scores(30, ("mini", "big"))
    own = np.random.default_rng(3).random(30)
    blind = [_row("intruder", latent, own[latent], explainer=None, control="latent") for latent in range(30)]
    figures = FIGURES | {"intruder": "accuracy", "again": "accuracy"}
    again = [row | {"scorer": "again", "metrics": {"accuracy": own[at] ** 2}} for at, row in enumerate(blind)]
    table = correlations(pd.concat([frame, pd.DataFrame(blind + again)]), figures).set_index(["a", "b"])
    row = table.loc["detection", "intruder"]
    assert (row["n"], row["latents"]) == (60, 30)
    assert row["spearman"] == pytest.approx(stats.spearmanr(values[0].ravel(), np.tile(own, 2)).statistic)
    # two such scorers have a row a latent
    assert table.loc["intruder", "again"]["n"] == 30
    assert table.loc["intruder", "again"]["spearman"] == pytest.approx(1)


def test_runs_that_judged_the_same_words_share_rows() -> None:
    frame, values = _scores(30)
    words = frame.assign(text=[f"words {latent}" for latent in frame["latent"]])
    detection, fuzzing = (words[words["scorer"] == name] for name in ("detection", "fuzzing"))
    apart = pd.concat([detection.assign(run="x"), fuzzing.assign(run="y")])
    figures = {name: FIGURES[name] for name in ("detection", "fuzzing")}
    (row,) = correlations(apart, figures).to_dict("records")
    assert (row["n"], row["latents"]) == (30, 30)
    assert row["spearman"] == pytest.approx(stats.spearmanr(values[0, 0], values[1, 0]).statistic)
    # without words, or with other ones, scores of two runs are of two explanations
    assert correlations(apart.drop(columns="text"), figures)["n"].tolist() == [0]
    apart.loc[(apart["run"] == "y") & (apart["latent"] < 10), "text"] = "other words"
    assert correlations(apart, figures)["n"].tolist() == [20]


def test_the_order_of_rows_changes_nothing() -> None:
    frame, _ = _scores(30, ("mini", "big"))
    assert correlations(frame, FIGURES).equals(correlations(frame.sample(frac=1, random_state=1), FIGURES))


def test_one_scorer_has_no_pair() -> None:
    table = correlations(_scores()[0], {"detection": "balanced_accuracy"})
    assert len(table) == 0
    assert "spearman_low" in table.columns


def test_what_is_correlated_is_every_row_that_both_have() -> None:
    frame, values = _scores(25, ("mini", "big"))
    frame.loc[(frame["scorer"] == "fuzzing") & (frame["latent"] == 3), "status"] = "unparsable"
    shared = shared_figures(frame, FIGURES)
    table = correlations(frame, FIGURES)
    for row in table.to_dict("records"):
        own = shared[(shared["a"] == row["a"]) & (shared["b"] == row["b"])]
        assert len(own) == row["n"]
        assert stats.spearmanr(own["value_a"], own["value_b"]).statistic == pytest.approx(row["spearman"])
    one = shared[(shared["a"] == "detection") & (shared["explainer"] == "big") & (shared["latent"] == 7)]
    assert one["value_a"].tolist() == [values[0, 1, 7]] * 2
    assert one["value_b"].tolist() == [values[1, 1, 7], values[2, 1, 7]]


def test_scorers_of_latents_alone_share_rows_without_an_explainer() -> None:
    frame = pd.DataFrame(
        [
            _row(scorer, latent, 0.5 + latent / 10, explainer=None, control="latent")
            for scorer in ("detection", "fuzzing")
            for latent in range(3)
        ]
    )
    shared = shared_figures(frame, {name: FIGURES[name] for name in ("detection", "fuzzing")})
    assert shared["explainer"].tolist() == [None] * 3
    assert shared["latent"].tolist() == [0, 1, 2]
