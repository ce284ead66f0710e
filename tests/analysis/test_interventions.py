"""Tables of interventions: what reached its KL is compared, statuses stand apart, lifts and lines are those by hand."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import tomli_w

from harness.analysis.analyse import analyse
from harness.analysis.interventions import interventions, pairs, regressions
from harness.analysis.load import Run, load
from harness.errors import UserError
from harness.metrics import mean_interval, unpaired_interval
from harness.report import gather
from harness.resources import fixture
from harness.runs.running import conduct
from harness.task import load_task

KL = 1.0


def record(latent: int, value: float | None, explainer: str | None, control: str | None = None, **more: Any) -> Any:
    """A score by interventions; the KL, and how it was found, are the latent's own."""
    coder = "sae~random-direction" if control == "random-direction" else "sae"
    kl, status = more.pop("kl", KL), more.pop("status", "ok")
    metrics = {"nats": value, "target": KL, "kl": kl, "strength": 10.0 + latent, "status": status}
    return {
        "run": "made", "coder": coder, "hookpoint": "model.layers.3", "latent": latent, "explainer": explainer,
        "control": control, "scorer": "nats", "scorer_model": "m", "prompt": "p", "rung": "random", "status": "ok",
        "metrics": metrics, "n_pos": 30, "n_neg": 0, "failed": 0, **more,
    }  # fmt: skip


def made(records: list[Any], matched: list[int] | None = None, chosen: list[int] | None = None) -> Run:
    """What the tables ask of a run, with these scores."""
    places = {"sae~random-direction": {"of": "sae", "control": "random-direction", "matched": matched or []}}
    arms = [SimpleNamespace(scorer=name, metric=metric, chance=None) for name, metric in (("nats", "nats"), ("f", "a"))]
    return cast(
        Run,
        SimpleNamespace(
            name="made", path=Path("made"), seed=0, rung="random", score_records=lambda: records,
            populations=places, latents={"sae~random-direction": chosen or []}, scoring=arms,
            record={}, metric_of=lambda name: {"nats": "nats", "f": "a"}[name], chance_of=lambda _: 0.0,
        ),
    )  # fmt: skip


def rows(table: pd.DataFrame, **cells: Any) -> list[dict[Any, Any]]:
    return [row for row in table.to_dict("records") if all(row[key] == value for key, value in cells.items())]


def test_only_latents_that_reach_the_target_on_both_sides_are_compared() -> None:
    draw = np.random.default_rng(1)
    own, swapped, random = draw.normal(1, 1, 40), draw.normal(0, 1, 40), draw.normal(0.2, 1, 40)
    # latents 0 to 4 saturate; so do random ones 135 to 139, which are matched to 35 to 39
    short = {latent: {"kl": 0.5, "status": "saturated"} for latent in range(5)}
    far = {latent: {"kl": 0.6, "status": "saturated"} for latent in range(135, 140)}
    records = [record(at, own[at], "e", **dict(short.get(at, {}))) for at in range(40)]
    records += [record(at, swapped[at], "e", "shuffled", **dict(short.get(at, {}))) for at in range(40)]
    records += [
        record(100 + at, random[at], "e", "random-direction", **dict(far.get(100 + at, {}))) for at in range(40)
    ]
    table = interventions(made(records, list(range(40)), list(range(100, 140))))
    (row,) = rows(table, arm="e", status="reached")
    assert (row["latents"], row["kl"], row["layer"], row["strength"]) == (35, 1.0, 3.0, 10 + 22)
    assert row["mean"] == pytest.approx(own[5:].mean())
    paired = mean_interval(own[5:] - swapped[5:])
    assert paired is not None
    assert row["lift_shuffled"] == pytest.approx((own[5:] - swapped[5:]).mean())
    assert (row["lift_shuffled_low"], row["lift_shuffled_high"]) == pytest.approx((paired.low, paired.high))
    apart = unpaired_interval(own[5:35], random[5:35])
    assert apart is not None
    assert row["lift_random-direction"] == pytest.approx(own[5:35].mean() - random[5:35].mean())
    assert row["lift_random-direction_low"] == pytest.approx(apart.low)
    counts = {(one["arm"], one["status"]): one["latents"] for one in rows(table)}
    assert counts == {
        ("e", "reached"): 35, ("e", "ok"): 35, ("e", "saturated"): 5,
        ("e (shuffled)", "reached"): 35, ("e (shuffled)", "ok"): 35, ("e (shuffled)", "saturated"): 5,
        ("e (random-direction)", "reached"): 35, ("e (random-direction)", "ok"): 35,
        ("e (random-direction)", "saturated"): 5,
    }  # fmt: skip


def test_a_strength_that_is_met_on_a_curve_that_falls_counts_as_reached_and_stands_apart() -> None:
    table = interventions(
        made([record(0, 1.0, "e"), record(1, 3.0, "e", kl=1.05, status="nonmonotone"),
              record(2, 9.0, "e", kl=0.7, status="nonmonotone"), record(3, 9.0, "e", kl=None, status="nonfinite")])
    )  # fmt: skip
    found = {row["status"]: (row["latents"], row["mean"]) for row in rows(table)}
    assert found == {"reached": (2, 2.0), "ok": (1, 1.0), "nonmonotone": (2, 6.0), "nonfinite": (1, 9.0)}


def test_failures_count_at_chance_where_another_arm_tells_how_strong_it_was() -> None:
    records = [record(at, 2.0, "e", "shuffled") for at in range(3)] + [record(0, 4.0, "e", failed=15)]
    refused = record(1, None, "e", status="refused")
    refused |= {"status": "refused", "metrics": {}, "n_pos": 0}
    lost = record(7, None, "e") | {"status": "too_few_examples", "metrics": {}, "n_pos": 0}
    (row,) = rows(interventions(made([*records, refused, lost])), arm="e")
    assert (row["latents"], row["failed"], row["failed_verdicts"]) == (2, 1, 15)
    # half of one score's verdicts are missing, and the other score is
    assert row["mean"] == pytest.approx((2.0 + 0.0) / 2)
    assert row["lift_shuffled"] == pytest.approx(1.0 - 2.0)


def test_scores_are_regressed_on_those_of_other_explanations_of_the_same_latents() -> None:
    draw = np.random.default_rng(2)
    fuzzing = draw.uniform(0.5, 1, 30)
    nats = 2 - fuzzing + draw.normal(0, 0.2, 30)
    kls = [1.0] * 29 + [0.2]
    records = [record(at, nats[at], "effect", kl=kls[at]) for at in range(30)]
    records += [record(at, 5.0, "effect", "shuffled", kl=kls[at]) for at in range(30)]
    records += [{**record(at, None, "contexts"), "scorer": "f", "metrics": {"a": fuzzing[at]}} for at in range(30)]
    (row,) = rows(regressions(made(records)))
    slope, intercept = np.polyfit(fuzzing[:29], nats[:29], 1)
    assert (row["n"], row["explainer"], row["other"], row["other_explainer"]) == (29, "effect", "f", "contexts")
    assert (row["slope"], row["intercept"]) == pytest.approx((slope, intercept))
    assert row["slope_low"] < slope < row["slope_high"]
    assert row["pearson"] == pytest.approx(np.corrcoef(fuzzing[:29], nats[:29])[0, 1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A real run on the shipped subject: two KLs, random directions, fuzzing beside them."""
    folder = tmp_path_factory.mktemp("figure-4")
    small = {"targets": [0.33, 3.0], "explain": 3, "select": 0, "score": 6, "minimum": 2, "top": 4, "tokens": 4}
    lexical = {"model": "lexical/rules"}
    task = {
        "name": "small",
        "controls": ["shuffled", "none", "random-direction"],
        "subject": {
            "model": str(fixture("subject")),
            "corpus": {"path": str(fixture("text", "demo.jsonl")), "tokens": 20_480},
            "threads": 1,
        },
        "coder": [{"name": "sae", "hookpoint": "model.layers.1", "path": str(fixture("subject", "sae"))}],
        "latents": {"ids": [659, 2330, 2451], "min_examples": 15},
        "examples": {"scored": {"activating": 10, "non_activating": 10}},
        "interventions": small,
        "explainer": [
            {"name": "contexts", "kind": "contexts", **lexical},
            *({"name": f"effect-{kl}", "kind": "intervention", "kl": kl, **lexical} for kl in small["targets"]),
        ],
        "scorer": [
            {"name": "fuzzing", "kind": "fuzzing", "explainers": ["contexts"], **lexical},
            *(
                {"name": f"judge-{kl}", "kind": "intervention", "mode": "judge", "kl": kl,
                 "explainers": [f"effect-{kl}"], **lexical}
                for kl in small["targets"]
            ),
        ],
    }  # fmt: skip
    (folder / "task.toml").write_text(tomli_w.dumps(task))
    previous = Path.cwd()
    try:
        os.chdir(folder)
        asyncio.run(conduct(load_task(folder / "task.toml"), folder / "run"))
    finally:
        os.chdir(previous)
    return load(folder / "run")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_real_run_s_tables_are_what_its_scores_say(run: Run) -> None:
    table = analyse(run, table="interventions")
    scores = run.scores()
    for row in rows(table, status="reached"):
        population = row["control"] if row["control"] == "random-direction" else None
        mine = [
            one for one in scores.to_dict("records")
            if (one["scorer"], one["explainer"], one["control"]) == (row["scorer"], row["explainer"], row["control"])
            and one["status"] == "ok" and abs(one["metrics"]["kl"] / row["target"] - 1) <= 0.1
        ]  # fmt: skip
        assert row["latents"] == len(mine) <= 3
        assert row["mean"] == pytest.approx(np.mean([one["metrics"]["accuracy"] for one in mine]), nan_ok=True)
        assert (row["metric"], row["layer"], row["coder"]) == ("accuracy", 1.0, "sae")
        assert population is None or row["arm"].endswith("(random-direction)")
    (own,) = rows(table, arm="effect-0.33", status="reached")
    assert {key for key in own if key.startswith("lift_") and not key.endswith(("_low", "_high"))} == {
        "lift_shuffled", "lift_none", "lift_random-direction",
    }  # fmt: skip
    # explanations of effects are not judged at another KL
    judged = {row["explainer"] for row in rows(table, scorer="judge-3.0") if row["control"] != "none"}
    assert judged == {"effect-3.0"}
    texts = analyse(run, table="pairs")
    assert set(texts["coder"]) == {"sae", "sae~random-direction"}
    assert len(rows(texts, coder="sae", latent=659, target=0.33)) == 6
    assert all(row["prompt"] and row["quantile"] in range(1, 6) for row in rows(texts))
    lines = analyse(run, table="regressions", scorer="judge-0.33")
    assert [(row["explainer"], row["other"], row["other_explainer"]) for row in rows(lines)] == [
        ("effect-0.33", "fuzzing", "contexts")
    ]
    with pytest.raises(UserError, match='no score by "fuzzing" is by an intervention'):
        analyse(run, table="interventions", scorer="fuzzing")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_report_of_a_real_run_has_the_pairs_of_the_table_with_every_verdict(run: Run) -> None:
    table = pairs(run)
    for latent in gather(run).latents:
        shown = [
            (change.target, pair.prompt, pair.clean, pair.steered) for change in latent.changes for pair in change.pairs
        ]
        own = table[(table["coder"] == latent.latent.coder) & (table["latent"] == latent.latent.index)]
        assert shown == list(zip(*(own[name] for name in ("target", "prompt", "clean", "steered")), strict=True))
        for change in latent.changes:
            for line in latent.scores:
                if line.scorer == f"judge-{change.target}" and line.status == "ok" and not line.failed:
                    told = [v for p in change.pairs for v in p.verdicts if (v.arm, v.scorer) == (line.arm, line.scorer)]
                    assert np.mean([one.right for one in told]) == pytest.approx(line.metrics["accuracy"])


def test_a_run_without_interventions_is_told() -> None:
    with pytest.raises(UserError, match="made: no score is by an intervention"):
        interventions(made([]))
    with pytest.raises(UserError, match="made: no latent was changed"):
        pairs(made([]))
