from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from harness.analysis.load import Run, load
from harness.errors import RunError
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.running import conduct
from harness.task import load_task


@pytest.fixture
def ran(write_task: Callable[..., Path], tmp_path: Path) -> Callable[..., Run]:
    def go(*overrides: str, out: str = "out", limit: int | None = None, **tables: Any) -> Run:
        asyncio.run(conduct(load_task(write_task(**tables), overrides), tmp_path / out, limit=limit))
        return load(tmp_path / out)

    return go


@pytest.fixture
def mixed(ran: Callable[..., Run], tmp_path: Path, make_store: Callable[..., Any]) -> Run:
    """Two explainers, one without words for latent 4; two scorers; all controls; latent 42 never fires."""
    store = make_store(tmp_path / "wide", latents=44)
    lines = [f'{{"latent": {latent}, "explanation": "the word w{latent}"}}' for latent in (3, 5, 42)]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    return ran(
        store={"path": str(store.path)},
        coder=[{"name": "words", "kind": "planted", "hookpoint": "model.layers.1"}],
        latents={"ids": [3, 4, 5, 42], "min_examples": 50},
        explainer=[
            {"name": "rules", "kind": "contexts", "model": "lexical/rules"},
            {"name": "mine", "kind": "file", "path": "mine.jsonl"},
        ],
        scorer=[
            {"name": "detection", "kind": "detection", "model": "lexical/rules"},
            {"name": "fuzzing", "kind": "fuzzing", "model": "lexical/rules"},
        ],
        controls=["shuffled", "generic", "none"],
    )


def test_explanations_have_a_row_for_every_arm_and_latent(mixed: Run) -> None:
    frame = mixed.explanations()
    assert list(frame.columns) == [
        "run", "coder", "hookpoint", "latent", "explainer", "control", "text", "status", "message", "base_rate",
        "usage",
    ]  # fmt: skip
    assert len(frame) == 6 * 4
    assert set(frame["run"]) == {"t"}
    assert set(frame["hookpoint"]) == {"model.layers.1"}
    own = frame[(frame["explainer"] == "mine") & frame["control"].isna()].set_index("latent")
    assert own["status"].to_dict() == {3: "ok", 4: "unparsable", 5: "ok", 42: "too_few_examples"}
    assert own.loc[3, "text"] == "the word w3"
    assert pd.isna(own.loc[4, "text"])
    assert "has no explanation of latent 4" in str(own.loc[4, "message"])
    # the share of the windows of one document that the latent fires in
    store = mixed.store()
    fires = store.coder("words").latent(3).positions
    windows = store.n_contexts * store.context_length // 32
    assert own.loc[3, "base_rate"] == pytest.approx(len({int(p) // 32 for p in fires}) / windows, rel=0.02)
    none = frame[frame["control"] == "none"]
    assert none["explainer"].isna().all()
    assert none["text"].isna().all()
    generic = frame[frame["control"] == "generic"]
    assert generic["text"].nunique() == 1


def test_scores_have_a_row_for_every_arm_latent_and_scorer(mixed: Run) -> None:
    frame = mixed.scores()
    assert list(frame.columns) == [
        "run", "coder", "hookpoint", "latent", "explainer", "control", "scorer", "scorer_model", "prompt", "rung",
        "status", "metrics", "n_pos", "n_neg", "failed", "usage",
    ]  # fmt: skip
    assert len(frame) == 6 * 4 * 2
    assert set(frame["rung"]) == {"random"}
    assert set(frame["prompt"]) == {"default"}
    silent = frame[frame["latent"] == 42]
    # no arm has a score of a latent without examples, the constant controls included
    own = silent[silent["control"].isin(["generic", "none"]) | silent["control"].isna()]
    assert set(own["status"]) == {"too_few_examples"}
    failed = frame[(frame["explainer"] == "mine") & (frame["latent"] == 4) & frame["control"].isna()]
    assert set(failed["status"]) == {"unparsable"}
    assert all(metrics == {} for metrics in failed["metrics"])
    good = frame[frame["status"] == "ok"]
    assert (good["n_pos"] == 10).all()
    assert (good["n_neg"] == 10).all()
    assert (good["failed"] == 0).all()


def test_verdicts_give_the_scores_again(mixed: Run) -> None:
    verdicts, scores = mixed.verdicts(), mixed.scores()
    assert list(verdicts.columns) == [
        "coder", "latent", "explainer", "control", "scorer", "rung", "context", "start", "truth", "quantile", "label",
        "probability", "value", "failure",
    ]  # fmt: skip
    keys = ["latent", "explainer", "control", "scorer"]
    good = scores[scores["status"] == "ok"]
    assert len(verdicts) == 20 * len(good)
    grouped = dict(list(verdicts.fillna({"explainer": "", "control": ""}).groupby(keys)))
    for row in good.fillna({"explainer": "", "control": ""}).to_dict("records"):
        mine = grouped[tuple(row[key] for key in keys)]
        told = row["metrics"]
        assert told["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(mine["truth"], mine["label"]))
        assert told["f1"] == pytest.approx(f1_score(mine["truth"], mine["label"]))
    assert set(verdicts["quantile"]) == set(range(11))
    assert ((verdicts["quantile"] > 0) == (verdicts["truth"] == 1)).all()


def test_a_verdict_names_its_window_in_the_store(mixed: Run) -> None:
    store = mixed.store()
    verdicts = mixed.verdicts()
    for row in verdicts.sample(40, random_state=0).to_dict("records"):
        text = store.pieces(row["context"], row["start"], row["start"] + 32)
        assert (f" w{row['latent']}" in text or f"w{row['latent']}" in text) == bool(row["truth"])


def test_arms_are_paired_on_the_same_windows(mixed: Run) -> None:
    verdicts = mixed.verdicts()
    for _, frame in verdicts.groupby(["latent", "scorer"]):
        windows = {
            tuple(arm[["context", "start", "truth"]].itertuples(index=False, name=None))
            for _, arm in frame.groupby(["explainer", "control"], dropna=False)
        }
        assert len(windows) == 1


def test_only_what_the_newest_task_reaches_is_read(ran: Callable[..., Run], tmp_path: Path) -> None:
    assert len(ran().scores()) == 4 * 3
    assert len(ran("scorer.detection.batch=5", latents={"sample": 2, "min_examples": 50}).scores()) == 2 * 3
    run = ran(controls=["none"])
    assert len(run.scores()) == 4 * 2
    assert set(run.explanations()["control"].dropna()) == {"none"}


def test_a_run_can_be_read_while_it_goes_on(write_task: Callable[..., Path], tmp_path: Path) -> None:
    from harness.runs.progress import Silent

    seen: list[int] = []

    class Reads(Silent):
        def latent(self) -> None:
            run = load(tmp_path / "out")
            seen.append(len(run.scores()))
            assert len(run.verdicts()) == 20 * seen[-1]

    task = load_task(write_task(), ["limits.latents=1"])
    asyncio.run(conduct(task, tmp_path / "out", progress=Reads()))
    assert seen == sorted(seen)
    assert 3 <= seen[0] < seen[-1] == 12


def test_what_was_settled_is_told(mixed: Run, tmp_path: Path) -> None:
    assert (mixed.name, mixed.seed, mixed.scorers) == ("t", 0, ("detection", "fuzzing"))
    assert mixed.ranking == {"scorer": "detection", "metric": "balanced_accuracy", "margin": 0.02}
    assert sorted(mixed.latents["words"]) == [3, 4, 5, 42]
    assert mixed.record["model_free"] == ["lexical/rules"]
    assert mixed.path == tmp_path / "out"


def test_reading_changes_nothing(mixed: Run) -> None:
    directory = mixed.path
    mixed.close()
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    run = load(directory)
    for read in (run.explanations, run.scores, run.verdicts, run.ledger):
        read()
    run.close()
    assert {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()} == before


def test_a_directory_in_which_nothing_ran_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run directory \(there is no journal\.sqlite in it\)"):
        load(tmp_path)
    Journal(tmp_path / JOURNAL)
    with pytest.raises(RunError, match="nothing has run here yet"):
        load(tmp_path)


def test_a_run_without_any_score_has_empty_frames_with_their_columns(ran: Callable[..., Run], tmp_path: Path) -> None:
    run = ran(latents={"ids": [3], "min_examples": 10**6}, controls=[])
    assert len(run.scores()) == 1
    assert run.verdicts().empty
    assert "label" in run.verdicts().columns


def test_labels_and_probabilities_are_numbers(mixed: Run) -> None:
    verdicts = mixed.verdicts()
    assert verdicts["label"].isin([0, 1]).all()
    assert verdicts["truth"].isin([0, 1]).all()
    known = verdicts["probability"].dropna()
    assert ((known >= 0) & (known <= 1)).all()
    assert np.issubdtype(verdicts["probability"].dtype, np.floating)


def test_a_summary_is_that_of_the_scores_by_the_primary_metric(mixed: Run) -> None:
    from harness.analysis.tables import summary

    plain = summary(mixed.scores(), mixed.ranking["metric"], seed=mixed.seed)
    found = mixed.summary()
    assert found[plain.columns].equals(plain)
    assert list(found.columns[len(plain.columns) :]) == ["permuted", "permuted_low", "permuted_high"]
