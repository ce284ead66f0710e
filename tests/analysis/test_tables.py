from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analysis.differences import differences
from harness.analysis.score_table import Arm, score_table, scorers_with
from harness.analysis.tables import latent_table, summary
from harness.errors import UserError
from harness.metrics import mean_interval, median_interval, unpaired_interval


def _row(latent: int, explainer: str | None, value: float | None, **changes: Any) -> dict[str, Any]:
    base = {
        "run": "r",
        "coder": "sae",
        "hookpoint": "model.layers.3",
        "latent": latent,
        "explainer": explainer,
        "control": None,
        "scorer": "detection",
        "scorer_model": "openai/judge",
        "prompt": "default",
        "rung": "random",
        "status": "ok",
        "metrics": {"balanced_accuracy": value, "mcc": value},
        "n_pos": 50,
        "n_neg": 50,
        "failed": 0,
    }
    return base | changes


def _failed(latent: int, explainer: str | None, status: str, **changes: Any) -> dict[str, Any]:
    return _row(latent, explainer, None, status=status, metrics={}, n_pos=0, n_neg=0, **changes)


def _line(table: pd.DataFrame, arm: str, scorer: str = "detection") -> pd.Series:
    (line,) = (row for _, row in table.iterrows() if (row["arm"], row["scorer"]) == (arm, scorer))
    return line


def _population(n: int = 30, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for latent in range(n):
        score = round(float(rng.beta(6, 2)), 2)
        rows.append(_row(latent, "mini", score))
        rows.append(_row(latent, "mini", 0.5 + 0.1 * float(rng.normal()) / 3, control="shuffled"))
        rows.append(_row(latent, None, 0.5, control="none"))
    return rows


def test_means_three_ways_on_a_hand_worked_table() -> None:
    rows = [
        _row(0, "a", 0.9), _row(0, "b", 0.7),
        _row(1, "a", 0.8), _failed(1, "b", "unparsable"),
        _failed(2, "a", "refused"), _row(2, "b", 0.6),
        _row(3, "a", 0.7), _row(3, "b", 0.8),
        _failed(4, "a", "too_few_examples"), _failed(4, "b", "too_few_examples"),
    ]  # fmt: skip
    table = summary(pd.DataFrame(rows), "balanced_accuracy")
    a, b = _line(table, "a"), _line(table, "b")
    assert (a["latents"], a["ok"], a["refused"], a["too_few_examples"], a["unparsable"]) == (5, 3, 1, 1, 0)
    assert (b["ok"], b["unparsable"]) == (3, 1)
    # all compared arms have latents 0 and 3
    assert a["common"] == b["common"] == 2
    assert (a["mean"], b["mean"]) == pytest.approx((0.8, 0.75))
    # latents 0 to 3, what failed at one half
    assert (a["mean_at_chance"], b["mean_at_chance"]) == pytest.approx((2.9 / 4, 2.6 / 4))
    assert (a["worst"], b["worst"]) == pytest.approx((2.4 / 4, 2.1 / 4))
    assert (a["median"], a["q25"], a["q75"]) == pytest.approx((0.8, 0.75, 0.85))
    assert math.isnan(a["mean_low"])
    assert list(table["arm"]) == ["a", "b"]


def test_failed_verdicts_count_at_chance_by_their_share() -> None:
    rows = [_row(0, "a", 0.9, failed=25), _row(1, "a", 0.9)]
    line = _line(summary(pd.DataFrame(rows), "balanced_accuracy"), "a")
    assert line["failed_verdicts"] == 25
    assert line["mean"] == pytest.approx(0.9)
    assert line["mean_at_chance"] == pytest.approx((0.75 * 0.9 + 0.25 * 0.5 + 0.9) / 2)
    assert line["worst"] == pytest.approx((0.75 * 0.9 + 0.9) / 2)


def test_a_scorers_own_chance_is_what_its_failures_count_as() -> None:
    figures = {"accuracy": 0.8, "chance": 0.2}
    rows = [_row(0, "a", None, metrics=figures), _failed(1, "a", "unparsable")]
    line = _line(summary(pd.DataFrame(rows), "accuracy"), "a")
    assert line["mean_at_chance"] == pytest.approx((0.8 + 0.2) / 2)


def test_an_undefined_figure_counts_at_chance_and_is_told() -> None:
    line = _line(summary(pd.DataFrame([_row(0, "a", 0.9), _row(1, "a", None)]), "balanced_accuracy"), "a")
    assert (line["ok"], line["undefined"]) == (2, 1)
    assert line["mean_at_chance"] == pytest.approx(0.7)


def test_the_chance_of_a_correlation_is_zero_and_it_has_no_worst_case() -> None:
    line = _line(summary(pd.DataFrame([_row(0, "a", 0.6), _failed(1, "a", "refused")]), "mcc"), "a")
    assert line["mean_at_chance"] == pytest.approx(0.3)
    assert math.isnan(line["worst"])


def test_lifts_are_paired_differences_with_intervals() -> None:
    rows = _population()
    frame = pd.DataFrame(rows)
    line = _line(summary(frame, "balanced_accuracy", seed=5), "mini")
    wide = score_table(frame, "balanced_accuracy", "detection")
    mini, shuffled = wide.pair(Arm("r", "mini", None), Arm("r", "mini", "shuffled"))
    interval = mean_interval(mini - shuffled, seed=5)
    assert interval is not None
    assert line["lift_shuffled"] == pytest.approx(np.mean(mini - shuffled))
    assert (line["lift_shuffled_low"], line["lift_shuffled_high"]) == (interval.low, interval.high)
    assert line["lift_none"] == pytest.approx(np.mean(mini) - 0.5)
    own = mean_interval(mini, seed=5)
    assert own is not None
    assert (line["mean_at_chance_low"], line["mean_at_chance_high"]) == (own.low, own.high)


def test_medians_have_the_interval_of_an_arms_own_figures() -> None:
    rows = [*_population(), _failed(30, "mini", "refused")]
    line = _line(summary(pd.DataFrame(rows), "balanced_accuracy"), "mini")
    own = [row["metrics"]["balanced_accuracy"] for row in rows[::3] if row["status"] == "ok"]
    interval = median_interval(own)
    assert interval is not None
    assert line["median"] == pytest.approx(np.median(own))
    assert (line["median_low"], line["median_high"]) == (interval.low, interval.high)
    few = _line(summary(pd.DataFrame(_population(5)), "balanced_accuracy"), "mini")
    assert math.isnan(few["median_low"])


def test_what_the_best_trivial_answer_gets_stands_beside_an_arm() -> None:
    rows = [_row(0, "a", 0.9, n_pos=4, n_neg=10), _row(1, "a", 0.9), _row(2, "a", 0.9)]
    for row in rows:
        row["metrics"] = {"accuracy": 0.9, "f1": 0.9, "pearson": 0.3}
    frame = pd.DataFrame(rows)
    assert _line(summary(frame, "accuracy"), "a")["trivial"] == pytest.approx((10 / 14 + 0.5 + 0.5) / 3)
    always = 2 * 4 / (2 * 4 + 10)
    assert _line(summary(frame, "f1"), "a")["trivial"] == pytest.approx((always + 2 / 3 + 2 / 3) / 3)
    assert math.isnan(_line(summary(frame, "pearson"), "a")["trivial"])
    choices = pd.DataFrame([row | {"metrics": {"accuracy": 0.4, "chance": 0.2}} for row in rows])
    assert math.isnan(_line(summary(choices, "accuracy"), "a")["trivial"])


def test_a_control_has_no_lift_over_itself() -> None:
    table = summary(pd.DataFrame(_population()), "balanced_accuracy")
    assert math.isnan(_line(table, "none")["lift_none"])
    assert math.isnan(_line(table, "mini (shuffled)")["lift_shuffled"])
    assert not math.isnan(_line(table, "mini (shuffled)")["lift_none"])


def test_each_explainer_is_held_against_its_own_shuffled_control() -> None:
    rows = [
        *(_row(latent, name, score) for latent in range(4) for name, score in (("a", 0.9), ("b", 0.8))),
        *(_row(latent, "a", 0.6, control="shuffled") for latent in range(4)),
    ]
    table = summary(pd.DataFrame(rows), "balanced_accuracy")
    assert _line(table, "a")["lift_shuffled"] == pytest.approx(0.3)
    assert math.isnan(_line(table, "b")["lift_shuffled"])


def test_arms_are_ranked_by_the_mean_with_failures_at_chance_real_arms_first() -> None:
    rows = [
        *(_row(latent, None, 0.95, control="none") for latent in range(4)),
        *(_row(latent, "steady", 0.7) for latent in range(4)),
        _row(0, "brittle", 0.9),
        *(_failed(latent, "brittle", "unparsable") for latent in range(1, 4)),
    ]
    assert list(summary(pd.DataFrame(rows), "balanced_accuracy")["arm"]) == ["steady", "brittle", "none"]


def test_an_arm_that_only_failed_does_not_empty_the_others_common_latents() -> None:
    rows = [_row(latent, "a", 0.8) for latent in range(3)] + [_failed(latent, "b", "refused") for latent in range(3)]
    table = summary(pd.DataFrame(rows), "balanced_accuracy")
    assert (_line(table, "a")["common"], _line(table, "b")["common"]) == (3, 0)
    assert math.isnan(_line(table, "b")["mean"])
    assert _line(table, "b")["mean_at_chance"] == 0.5


def test_a_population_of_its_own_does_not_empty_the_others_common_latents() -> None:
    rows = [_row(latent, "a", 0.8) for latent in range(3)]
    rows += [_row(latent, "a", 0.6, coder="random", control="random-coder") for latent in range(2)]
    table = summary(pd.DataFrame(rows), "balanced_accuracy")
    assert list(table["common"]) == [3, 2]
    # three latents are too few for an interval
    assert _line(table, "a")["lift_random-coder"] == pytest.approx(0.2)
    assert math.isnan(_line(table, "a")["lift_random-coder_low"])
    assert math.isnan(_line(table, "a (random-coder)")["lift_random-coder"])


def test_the_lift_over_random_latents_is_unpaired_with_failures_at_chance() -> None:
    rng = np.random.default_rng(0)
    real, random = rng.beta(6, 2, 30), rng.beta(3, 3, 25)
    # the same indexes on either side: nothing may be paired by them
    rows = [_row(latent, "a", value) for latent, value in enumerate(real)]
    rows += [_row(latent, "a", value, coder="c~random-direction", control="random-direction")
             for latent, value in enumerate(random)]  # fmt: skip
    rows += [_failed(30, "a", "refused"), _failed(31, "a", "too_few_examples")]
    table = summary(pd.DataFrame(rows), "balanced_accuracy", seed=4)
    line = _line(table, "a")
    filled = np.append(real, 0.5)
    expected = unpaired_interval(filled, random, seed=4)
    assert expected is not None
    assert line["lift_random-direction"] == pytest.approx(filled.mean() - random.mean())
    assert (line["lift_random-direction_low"], line["lift_random-direction_high"]) == (expected.low, expected.high)
    assert list(table["arm"]) == ["a", "a (random-direction)"]


def test_random_latents_are_in_no_comparison_and_no_table_of_latents() -> None:
    rows = _population()
    rows += [_row(latent, "mini", 0.9, coder="c~random-coder", control="random-coder") for latent in range(30)]
    frame = pd.DataFrame(rows)
    compared = differences(frame, "balanced_accuracy")
    assert set(compared["control_b"]) == {"shuffled", "none"}
    words = [
        _explanation(row["latent"], "mini", "words", coder=row["coder"], control=row["control"])
        for row in rows
        if row["control"] in (None, "random-coder")
    ]
    table = latent_table(pd.DataFrame(words), frame, "balanced_accuracy")
    assert len(table) == 30
    assert not [name for name in table.columns if "random" in name]


def test_the_lexical_control_is_told_from_an_explainer_of_that_name() -> None:
    rows = [_row(latent, "lexical", 0.8) for latent in range(3)]
    rows += [_row(latent, None, 0.7, control="lexical") for latent in range(3)]
    table = summary(pd.DataFrame(rows), "balanced_accuracy")
    assert list(table["arm"]) == ["lexical", "lexical baseline"]
    assert _line(table, "lexical")["lift_lexical"] == pytest.approx(0.1)


def test_the_same_index_of_two_coders_is_two_latents() -> None:
    rows = [_row(0, "a", 0.8), _row(0, "a", 0.6, coder="other")]
    assert _line(summary(pd.DataFrame(rows), "balanced_accuracy"), "a")["latents"] == 2


def test_scorers_without_the_metric_are_left_out() -> None:
    rows = [_row(0, "a", 0.8), _row(0, "a", None, scorer="simulation", metrics={"pearson": 0.3})]
    frame = pd.DataFrame(rows)
    assert list(summary(frame, "balanced_accuracy")["scorer"]) == ["detection"]
    assert scorers_with(frame, "pearson") == ["simulation"]


def test_rungs_are_kept_apart() -> None:
    frame = pd.DataFrame([_row(0, "a", 0.8), _row(0, "a", 0.6, rung="neighbour")])
    assert _line(summary(frame, "balanced_accuracy"), "a")["mean"] == 0.8
    assert _line(summary(frame, "balanced_accuracy", rung="neighbour"), "a")["mean"] == 0.6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("niceness",), 'no metric "niceness"; known: accuracy'),
        (("auroc",), 'no scorer has the metric "auroc" on rung "random"; scorers there: detection'),
        (("mcc", "fuzzing"), 'scorer "fuzzing" has no metric "mcc" on rung "random"; with it: detection'),
        (("mcc", None, "neighbour"), 'no scores on rung "neighbour"; rungs with scores: random'),
    ],
)
def test_a_wrong_name_is_told_with_the_right_ones(arguments: tuple, words: str) -> None:
    with pytest.raises(UserError) as caught:
        summary(pd.DataFrame([_row(0, "a", 0.8)]), *arguments)
    assert words in str(caught.value)


def test_two_scores_of_one_arm_and_latent_are_refused() -> None:
    with pytest.raises(ValueError, match="two scores"):
        summary(pd.DataFrame([_row(0, "a", 0.8), _row(0, "a", 0.8)]), "balanced_accuracy")


def test_missing_cells_may_be_none_or_nan() -> None:
    rows = _population(4)
    frame = pd.DataFrame(rows)
    as_object = pd.DataFrame(rows, dtype=object)
    pd.testing.assert_frame_equal(summary(frame, "balanced_accuracy"), summary(as_object, "balanced_accuracy"))


def test_the_order_of_rows_does_not_matter() -> None:
    frame = pd.DataFrame(_population())
    mixed = frame.sample(frac=1, random_state=0)
    one, other = summary(frame, "balanced_accuracy"), summary(mixed, "balanced_accuracy")
    pd.testing.assert_frame_equal(one, other[one.columns])


def _explanation(latent: int, explainer: str | None, text: str | None, **changes: Any) -> dict[str, Any]:
    base = {"run": "r", "coder": "sae", "hookpoint": "model.layers.3", "latent": latent, "explainer": explainer}
    return base | {"control": None, "text": text, "status": "ok", "usage": None} | changes


def test_a_latent_table_has_explanations_with_scores_and_controls_beside_them() -> None:
    explanations = [
        _explanation(0, "a", "months"),
        _explanation(1, "a", None, status="unparsable"),
        _explanation(0, "a", "colours", control="shuffled"),
    ]
    scores = [
        _row(0, "a", 0.9),
        _row(0, "a", 0.8, scorer="fuzzing"),
        _row(0, "a", 0.55, control="shuffled"),
        _row(0, None, 0.5, control="none"),
        _failed(1, "a", "unparsable"),
        _row(1, None, 0.6, control="none"),
    ]
    table = latent_table(pd.DataFrame(explanations), pd.DataFrame(scores), "balanced_accuracy")
    assert list(table.columns) == [
        *("run", "coder", "hookpoint", "latent", "explainer", "explanation", "status"),
        *("detection", "detection_shuffled", "detection_none", "fuzzing"),
    ]
    assert list(table["latent"]) == [0, 1]
    assert list(table["explanation"].fillna("")) == ["months", ""]
    np.testing.assert_equal(table["detection"].tolist(), [0.9, math.nan])
    np.testing.assert_equal(table["detection_shuffled"].tolist(), [0.55, math.nan])
    np.testing.assert_equal(table["detection_none"].tolist(), [0.5, 0.6])
    np.testing.assert_equal(table["fuzzing"].tolist(), [0.8, math.nan])
