"""Populations of random latents: matched to a coder's latents, in stores of their own, and nothing to the coder's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.analysis.load import Run, load
from harness.errors import StoreError, TaskError
from harness.runs.plan import plan
from harness.runs.populations import CANDIDATES, nearest, random_coders
from harness.runs.progress import Silent
from harness.runs.running import Outcome, conduct
from harness.runs.stop import Stop
from harness.subject.texts import SubjectTexts
from harness.task import load_task
from harness.values import Latent

DIRECTIONS, CODER = "sae~random-direction", "sae~random-coder"
Results = Callable[[Path], set[tuple[str, str, str]]]


@pytest.fixture
def full(random_run: Path) -> Run:
    return load(random_run / "full")


def _naive(wanted: list[int], candidates: list[int]) -> list[int]:
    found: list[int] = []
    for rate in wanted:
        left = [place for place in range(len(candidates)) if place not in found]
        if left:
            found.append(min(left, key=lambda place: (abs(np.log(candidates[place] / rate)), place)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_by_ratio_is_taken_and_none_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wanted, candidates = rng.integers(1, 60, 12).tolist(), rng.integers(1, 60, 30).tolist()
    found = nearest(wanted, candidates)
    assert found == _naive(wanted, candidates)
    assert len(set(found)) == len(found)
    assert nearest(wanted[:5], candidates) == found[:5]


def test_with_fewer_candidates_the_last_get_none() -> None:
    assert nearest([10, 20, 30], [29, 11]) == [1, 0]
    assert nearest([10], []) == []


def test_directions_fire_as_often_as_the_latents_they_stand_for(full: Run) -> None:
    place = full.populations[DIRECTIONS]
    real = full.store().coder("sae").statistics.rate[place["matched"]]
    coder = full.store(DIRECTIONS).coder(DIRECTIONS)
    made = coder.statistics.rate[full.latents[DIRECTIONS]]
    assert place["matched"] == full.latents["sae"]
    # a threshold rests on the first 100 / rate tokens, here a quarter of the text to all of it
    assert np.abs(np.log(made / real)).max() < 0.35
    assert np.median(made / real) == pytest.approx(1, abs=0.1)
    # of the directions drawn for a latent that are eligible the most similar in its number of windows is taken
    wanted, counts = full.store().coder("sae").windows(32)[place["matched"]], coder.windows(32)
    for at, taken in enumerate(full.latents[DIRECTIONS]):
        assert taken % 24 == at
        off = {n: abs(np.log(max(1, counts[at + 24 * n]) / wanted[at])) for n in range(CANDIDATES)}
        fit = {n: away for n, away in off.items() if counts[at + 24 * n] >= 40} or off
        assert fit[taken // 24] == min(fit.values())
    assert np.median(np.abs(np.log(counts[full.latents[DIRECTIONS]] / wanted))) < 0.15


def test_a_random_coders_latents_fire_in_about_as_many_windows(full: Run) -> None:
    place, window = full.populations[CODER], 32
    chosen = full.latents[CODER]
    real = full.store().coder("sae").windows(window)[place["matched"]]
    coder = full.store(CODER).coder(CODER)
    made = coder.windows(window)[chosen]
    assert place["matched"] == full.latents["sae"][: len(chosen)]
    assert len(set(chosen)) == len(chosen)
    assert (made >= 40).all()
    assert np.median(np.abs(np.log(made / real))) < 0.1
    # as many latents as the coder has, as many active ones
    assert coder.n_latents == full.store().coder("sae").n_latents
    assert coder.statistics.l0 == pytest.approx(round(full.store().coder("sae").statistics.l0), abs=0.01)


def test_rates_of_windows_are_those_of_the_stores(full: Run) -> None:
    store, held = full.store(), full.store(DIRECTIONS)
    expected = store.coder("sae").windows(32)[full.latents["sae"]] / store.n_windows(32)
    assert full.window_rates() == pytest.approx(expected.tolist())
    expected = held.coder(DIRECTIONS).windows(32)[full.latents[DIRECTIONS]] / held.n_windows(32)
    assert full.window_rates("random-direction") == pytest.approx(expected.tolist())


def test_random_latents_are_of_the_same_text_and_hookpoint(full: Run) -> None:
    for name in (DIRECTIONS, CODER):
        held = full.store(name)
        assert (np.asarray(held.tokens) == np.asarray(full.store().tokens)).all()
        assert held.coder(name).hookpoint == full.store().coder("sae").hookpoint


def test_a_population_changes_no_key_and_no_verdict_of_the_coders_own(random_run: Path, results_of: Results) -> None:
    plain, every = results_of(random_run / "plain"), results_of(random_run / "full")
    assert len(plain) > 24 * 4
    assert plain < every
    old, new = load(random_run / "plain"), load(random_run / "full")
    assert old.record["store"] == new.record["store"]
    assert [arm for arm in new.arms if arm.coder == "sae" and arm.control != "lexical"] == list(old.arms)


def test_random_latents_are_explained_and_scored_by_explainers_alone(full: Run) -> None:
    frame = full.scores()
    for control, name in (("random-direction", DIRECTIONS), ("random-coder", CODER)):
        own = frame[frame["coder"] == name]
        assert set(own["control"]) == {control}
        assert set(own["explainer"]) == {"a"}
        assert sorted(own["latent"]) == sorted(full.latents[name])
    words = full.explanations().query("control == 'random-direction'")
    assert words["text"].nunique() > 20
    assert (words["status"] == "ok").mean() > 0.9
    assert set(words["hookpoint"]) == {"model.layers.1"}


def test_no_random_latent_is_a_partner_or_has_one(random_run: Path, full: Run) -> None:
    shuffled = [(arm, unit) for arm, _, unit in full.explanation_units() if arm.control == "shuffled"]
    assert {arm.coder for arm, _ in shuffled} == {"sae"}
    assert {unit.result["partner"] for _, unit in shuffled if unit is not None} <= set(full.latents["sae"])


def test_a_second_run_finds_all_done(
    random_run: Path, random_task: Callable[..., Path], results_of: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(random_run)
    before = results_of(random_run / "full")
    asyncio.run(conduct(load_task(random_task()), random_run / "full"))
    assert results_of(random_run / "full") == before
    assert len(load(random_run / "full").journal.tasks()) == 1


def test_a_limit_takes_the_first_of_the_same_random_latents(
    random_run: Path, random_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, full: Run, tmp_path: Path
) -> None:
    monkeypatch.chdir(random_run)
    asyncio.run(conduct(load_task(random_task()), tmp_path / "few", limit=5))
    few = load(tmp_path / "few")
    assert {name: found[:5] for name, found in full.latents.items()} == few.latents
    assert few.populations[CODER]["store"] == full.populations[CODER]["store"]
    assert few.populations[DIRECTIONS]["store"] == full.populations[DIRECTIONS]["store"]


class _Interrupting(Silent):
    """Wishes the run to stop in the middle of collecting random latents."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._told = False

    def note(self, text: str) -> None:
        self._told = self._told or "once more for the control random-coder" in text

    def collecting(self, done: int, total: int) -> None:
        self._stop.wished = self._told and done > 10_000


def test_stores_are_the_same_anywhere_and_collecting_goes_on_after_an_interrupt(
    random_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, full: Run, results_of: Results
) -> None:
    monkeypatch.chdir(tmp_path)
    task, stop = load_task(random_task()), Stop()

    def go(**options: Any) -> Outcome:
        return asyncio.run(conduct(task, tmp_path / "run", **options))

    cut = go(stop=stop, progress=_Interrupting(stop))
    assert cut.interrupted
    assert not cut.statuses
    go()
    again = load(tmp_path / "run")
    assert {name: one["store"]["id"] for name, one in again.populations.items()} == {
        name: one["store"]["id"] for name, one in full.populations.items()
    }
    assert results_of(tmp_path / "run") == results_of(full.path)


def test_another_seed_gives_other_directions(
    random_run: Path, random_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, full: Run
) -> None:
    monkeypatch.chdir(random_run)
    same, other = (load_task(random_task(), [f"seed={seed}"]) for seed in (0, 1))
    for control in same.populations:
        (first,), (again,), (another,) = (random_coders(t, full.store(), control) for t in (same, same, other))
        assert first == again
        assert first.seed != another.seed
    (directions,) = random_coders(same, full.store(), "random-direction")
    (coder,) = random_coders(same, full.store(), "random-coder")
    assert directions.seed != coder.seed


def test_a_plan_without_collecting_says_what_to_do(
    random_run: Path, random_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(random_run)
    forecast = plan(random_task(), tmp_path / "plan")
    assert forecast.latents == 24 * 3
    # requests of the baseline are those of the equal explainer
    explained = {line.arm for line in forecast.lines if line.stage == "explain"}
    assert explained == {"a on sae", f"a on {DIRECTIONS}", f"a on {CODER}"}
    with pytest.raises(StoreError, match="the random-direction latents are not collected yet: give --collect"):
        plan(random_task(latents={"sample": 5, "min_examples": 40}), tmp_path / "other")


def test_latents_that_never_fire_have_no_direction(
    random_run: Path, random_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, full: Run
) -> None:
    monkeypatch.chdir(random_run)
    firings = full.store().coder("sae").statistics.firings
    dead, alive = int(np.flatnonzero(firings == 0)[0]), full.latents["sae"][0]
    ids = {"ids": [dead, alive], "min_examples": 40}
    (made,) = random_coders(load_task(random_task(latents=ids)), full.store(), "random-direction")
    assert made.rate == (float(full.store().coder("sae").statistics.rate[alive]),)
    assert made.latents == CANDIDATES
    only = load_task(random_task(latents={"ids": [dead]}))
    with pytest.raises(TaskError, match=r'controls: no chosen latent of coder "sae" fires: nothing to match'):
        random_coders(only, full.store(), "random-direction")


def test_where_no_random_latent_is_eligible_it_is_told(
    random_run: Path, random_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, full: Run
) -> None:
    monkeypatch.chdir(random_run)
    ids = {"ids": full.latents["sae"][:2], "min_examples": 100_000}
    task = load_task(random_task(latents=ids, controls=["random-coder"]))
    with pytest.raises(TaskError, match=r'beside coder "sae" has at least 100000 activating windows: lower'):
        asyncio.run(conduct(task, tmp_path / "run"))


def test_harness_run_takes_them_from_python(
    random_run: Path, random_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, full: Run
) -> None:
    monkeypatch.chdir(random_run)
    table = harness.run(random_task(), random_run / "full", report=False).summary()
    assert {"a", "a (shuffled)", "none", "lexical baseline", "a (random-direction)", "a (random-coder)"} == set(
        table["arm"]
    )


def test_texts_written_for_a_random_latent_are_read_by_its_own_coder(
    random_run: Path, random_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, full: Run, tmp_path: Path
) -> None:
    monkeypatch.chdir(random_run)
    generation = {"name": "generation", "kind": "generation", "model": "lexical/rules", "texts": 5}
    scorers = [{"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10}, generation]
    asyncio.run(conduct(load_task(random_task(scorer=scorers)), tmp_path / "run", limit=3))
    frame = load(tmp_path / "run").scores().query("scorer == 'generation' and explainer == 'a'")
    for name in (DIRECTIONS, CODER):
        own = frame[frame["coder"] == name]
        assert sorted(own["latent"]) == sorted(full.latents[name][:3])
        assert set(own["status"]) == {"ok"}


def test_a_random_latent_is_as_active_in_a_text_as_in_the_corpus(
    random_run: Path, random_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, full: Run
) -> None:
    monkeypatch.chdir(random_run)
    task, held = load_task(random_task()), full.store(DIRECTIONS)
    assert task.subject is not None
    # the first document, which nothing stands before but the BOS
    length = int((np.asarray(held.documents[0]) == held.documents[0][1]).sum())
    text = "".join(held.pieces(0, 1, 1 + length))
    firings = [held.coder(DIRECTIONS).latent(index) for index in range(96)]
    dense = np.zeros((96, held.context_length * held.n_contexts), np.float32)
    for index, found in enumerate(firings):
        dense[index, found.positions] = found.values
    alive = np.flatnonzero((dense[:, 1 : 1 + length] > 0).any(axis=1))
    assert len(alive) > 5
    coders = random_coders(task, full.store(), "random-direction")
    subject = SubjectTexts(task.subject, (*task.coder, *coders), task.base)
    for index in alive[:5].tolist():
        (read,) = asyncio.run(subject.read(Latent(DIRECTIONS, index), [text]))
        np.testing.assert_allclose(read.activations, dense[index, 1 : 1 + length], rtol=2e-3, atol=2e-3)


def test_scorers_that_judge_no_explanation_tell_random_latents_from_the_coders_own(
    random_run: Path, random_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, full: Run, tmp_path: Path
) -> None:
    monkeypatch.chdir(random_run)
    intruder = {"name": "intruder", "kind": "intruder", "model": "lexical/rules"}
    asyncio.run(conduct(load_task(random_task(scorer=[intruder])), tmp_path / "run", limit=22))
    run = load(tmp_path / "run")
    table = run.summary("accuracy").set_index("arm")
    assert set(table.index) == {"latent", "random-direction", "random-coder"}
    frame = run.scores()
    for arm, coder in (("latent", "sae"), ("random-direction", DIRECTIONS), ("random-coder", CODER)):
        own = [row["accuracy"] for row in frame[frame["coder"] == coder]["metrics"] if row]
        assert table.loc[arm, "mean"] == pytest.approx(np.mean(own))
    lift = table.loc["latent", "lift_random-direction"]
    assert lift == pytest.approx(
        table.loc["latent", "mean_at_chance"] - table.loc["random-direction", "mean_at_chance"]
    )
    assert table.loc["latent", "lift_random-direction_low"] < lift < table.loc["latent", "lift_random-direction_high"]
