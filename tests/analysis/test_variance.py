"""The variance of scores by source: of planted effects, of runs against their own journal, and of rankings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from harness.analysis.load import load
from harness.analysis.variance import split, variance
from harness.errors import RunError, UserError
from harness.runs.plan import aplan
from harness.runs.running import conduct
from harness.runs.variance import Design, plan_variance, replicates, vary
from harness.task import load_task
from harness.testing import FakeProvider, by_keywords
from harness.testing.answers import Messages

pytestmark = pytest.mark.anyio

DESIGN = Design(draws=2, explainer_samples=2, scorer_samples=2)
WRITER = {"name": "a", "kind": "contexts", "model": "openai-api/fake/explainer"}
RULES = {"name": "rules", "kind": "contexts", "model": "lexical/rules"}
JUDGE = {"name": "detection", "kind": "detection", "model": "openai-api/fake/judge", "batch": 10}


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    monkeypatch.setenv("FAKE_BASE_URL", "http://127.0.0.1:9/v1")
    return lambda provider: monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)


@pytest.fixture
def task(write_task: Callable[..., Path]) -> Callable[..., Any]:
    def make(**tables: Any) -> Any:
        known = {name: {"logprobs": True} for name in ("openai-api/fake/explainer", "openai-api/fake/judge")}
        latents = {"ids": list(range(6)), "min_examples": 50}
        return load_task(
            write_task(
                **{"latents": latents, "explainer": [WRITER, RULES], "scorer": [JUDGE], "model": known, **tables}
            )
        )

    return make


def _moody() -> Callable[[Messages, Mapping[str, Any]], str]:
    """A provider whose judge is wrong now and then, another time each time."""
    generator = np.random.default_rng(0)

    def answer(messages: Messages, body: Mapping[str, Any]) -> str:
        said = by_keywords(messages, body)
        if body["model"] == "judge" and generator.random() < 0.5:
            return said.replace("0", "x").replace("1", "0").replace("x", "1")
        return said

    return answer


def _row(table: pd.DataFrame, **cells: Any) -> Mapping[Any, Any]:
    (row,) = (row for row in table.to_dict("records") if all(row[name] == value for name, value in cells.items()))
    return row


def _planted(n: int, seed: int = 0) -> np.ndarray:
    """Two arms with a draw of examples that both see, explanations and verdicts of their own."""
    generator = np.random.default_rng(seed)
    latents, examples = generator.normal(size=(n, 1, 1, 1, 1, 1)), generator.normal(size=(n, 1, 1, 4, 1, 1))
    writing, judging = generator.normal(size=(n, 2, 1, 4, 4, 1)), generator.normal(size=(n, 2, 1, 4, 4, 4))
    return 0.7 + 0.10 * latents + 0.05 * examples + 0.04 * writing + 0.03 * judging


def test_planted_sources_are_recovered_in_all_three_tables() -> None:
    found = split(_planted(600), ["a", "b"])
    for source, sd in (("latents", 0.10), ("examples", 0.05), ("explainer", 0.04), ("scorer", 0.03)):
        for arm in ("a", "b"):
            assert _row(found.score, arm=arm, source=source)["sd"] == pytest.approx(sd, rel=0.08)
            mean = _row(found.mean, arm=arm, source=source)
            # of a mean over latents each adds its share, and nothing is common to them
            assert mean["variance"] == pytest.approx(sd**2 / 600, abs=1.5e-5)
    total = _row(found.score, arm="a", source="total")
    assert total["variance"] == pytest.approx(0.1**2 + 0.05**2 + 0.04**2 + 0.03**2, rel=0.08)
    # what both arms see alike cancels; what each has for itself counts twice
    for source, variance_ in (("latents", 0.0), ("examples", 0.0), ("explainer", 2 * 0.04**2), ("scorer", 2 * 0.03**2)):
        row = _row(found.difference, a="a", b="b", source=source)
        assert row["variance"] == pytest.approx(variance_ / 600, abs=2.5e-6)
        assert row["low"] <= variance_ / 600 <= row["high"]


def test_what_a_draw_does_to_all_latents_alike_is_not_divided_by_their_number() -> None:
    generator = np.random.default_rng(1)
    shared = 0.1 * generator.normal(size=(1, 1, 1, 60, 1, 1))
    scores = shared + 0.05 * generator.normal(size=(50, 1, 1, 60, 1, 1))
    found = split(scores, ["a"])
    assert _row(found.mean, source="examples")["variance"] == pytest.approx(0.01 + 0.05**2 / 50, rel=0.4)
    assert _row(found.mean, source="common")["variance"] == pytest.approx(0.01, rel=0.4)
    assert _row(found.mean, source="seen")["variance"] == pytest.approx(0.05**2 / 50, rel=0.2)


def test_shares_sum_to_one_and_negative_estimates_are_shown() -> None:
    found = split(np.random.default_rng(3).normal(size=(24, 1, 1, 4, 4, 1)), ["a"])
    rows = [row for row in found.score.to_dict("records") if row["source"] not in ("total", "seen", "common")]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert found.components["variance"].min() < 0
    # every source is the sum of its effects
    for row in rows:
        own = [e["variance"] for e in found.components.to_dict("records") if e["source"] == row["source"]]
        assert row["variance"] == pytest.approx(sum(own), abs=1e-12)


def test_corpora_are_a_source_where_there_are_several() -> None:
    generator = np.random.default_rng(2)
    scores = 0.1 * generator.normal(size=(300, 1, 4, 1, 1, 1)) + 0.02 * generator.normal(size=(300, 1, 4, 4, 1, 1))
    found = split(scores, ["a"])
    assert _row(found.score, source="corpora")["sd"] == pytest.approx(0.1, rel=0.1)
    assert _row(found.score, source="examples")["sd"] == pytest.approx(0.02, rel=0.1)


def test_ranks_are_compared_where_all_is_drawn_again_from_a_stage_on() -> None:
    scores = _planted(40)
    found = split(scores, ["a", "b"], top=5)
    told = _row(found.stability, arm="a", again="scorer")
    every = [
        kendalltau(scores[:, 0, 0, d, e, s], scores[:, 0, 0, d, e, t]).statistic
        for d in range(4)
        for e in range(4)
        for t in range(4)
        for s in range(t)
    ]
    # some pairs at random of very many
    assert told["tau"] == pytest.approx(np.mean(every), abs=0.02)
    assert told["pairs"] == 40
    taus = [_row(found.stability, arm="a", again=stage)["tau"] for stage in ("scorer", "explainer and on")]
    assert taus[0] > taus[1] > _row(found.stability, arm="a", again="examples and on")["tau"]
    assert _row(found.stability, arm="a", again="scorer")["overlap_by_chance"] == 5 / 40


async def test_a_runs_scores_are_those_of_its_journal(
    task: Callable[..., Any], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    async with FakeProvider(_moody()) as provider:
        point_at(provider)
        await vary(task(), DESIGN, tmp_path / "out")
        asked = [request.body["model"] for request in provider.requests]
        await vary(task(), DESIGN, tmp_path / "out")
        # going on with what is done asks nothing
        assert len(provider.requests) == len(asked)
    # 6 latents, 2 draws of examples, 2 explanations
    assert asked.count("explainer") == 24
    found = variance(tmp_path / "out")
    assert (found.scorer, found.metric, found.latents, found.left_out) == ("detection", "balanced_accuracy", 6, 0)
    run = load(tmp_path / "out")
    scores = np.full((6, 2, 2, 2, 2), np.nan)
    for record in run.journal.tasks():
        run.task, draw = record, record.record["task"]["examples"]["draw"]
        run.__dict__.pop("arms", None)
        run.__dict__.pop("scoring", None)
        for row in run.scores().to_dict("records"):
            name, e = (row["explainer"].removesuffix(".1"), int(row["explainer"].endswith(".1")))
            s = int(row["scorer"].endswith(".1"))
            scores[row["latent"], ["a", "rules"].index(name), draw, e, s] = row["metrics"]["balanced_accuracy"]
    expected = split(scores[:, :, None], ["a", "rules"], seed=0)
    pd.testing.assert_frame_equal(found.score, expected.score)
    pd.testing.assert_frame_equal(found.difference, expected.difference)
    # the rules are the same each time, and the judge is not
    assert _row(found.score, arm="rules", source="explainer")["variance"] == 0
    assert _row(found.score, arm="a", source="scorer")["variance"] > 0


async def test_draws_that_are_missing_are_told(
    task: Callable[..., Any], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    async with FakeProvider(by_keywords) as provider:
        point_at(provider)
        with pytest.raises(RunError, match="no runs of a task's variance"):
            variance(tmp_path)
        await vary(task(), DESIGN, tmp_path / "out")
        with pytest.raises(UserError, match='no scorer "fuzzing"; it has detection'):
            variance(tmp_path / "out", "fuzzing")
        # more draws than there are yet
        made = replicates(task(), Design(3, 2, 2))
        (tmp_path / "out" / "variance.json").write_text(
            '{"draws": 3, "explainer_samples": 2, "scorer_samples": 2, "corpora": [], '
            '"explainers": ["a", "rules"], "scorers": ["detection"]}'
        )
        with pytest.raises(RunError, match="1 of 3 draws are not begun"):
            variance(tmp_path / "out")
        await conduct(made[2], tmp_path / "out", limit=4)
        found = variance(tmp_path / "out")
    assert (found.latents, found.left_out) == (4, 2)


def test_replicates_are_of_the_same_latents_on_the_headlines_rung(task: Callable[..., Any]) -> None:
    judge = {**JUDGE, "explainers": ["a"]}
    given = task(
        scorer=[judge, {"name": "intruder", "kind": "intruder", "model": "lexical/rules"}],
        examples={"draw": 5, "scored": {"activating": 10, "non_activating": 10, "rungs": ["random", "same-token"]}},
        primary={"scorer": "detection"},
    )
    made = replicates(given, Design(2, 3, 2))
    assert [one.examples.draw for one in made] == [5, 6]
    for one in made:
        assert one.seed == given.seed
        assert one.examples.scored.rungs == ("random",)
        assert one.controls == ()
        assert [(e.name, e.sample) for e in one.explainer][:3] == [("a", 0), ("a.1", 1), ("a.2", 2)]
        assert [(s.name, s.explainers) for s in one.scorer] == [
            ("detection", ("a", "a.1", "a.2")),
            ("detection.1", ("a", "a.1", "a.2")),
        ]


def test_names_and_scorers_that_do_not_do_are_told(task: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r'"a\.1" is that of another draw'):
        replicates(task(explainer=[WRITER, {**WRITER, "name": "a.1"}]), DESIGN)
    blind = {"name": "intruder", "kind": "intruder", "model": "lexical/rules"}
    with pytest.raises(UserError, match="intruder judges no explanation"):
        replicates(task(scorer=[blind, JUDGE], primary={"scorer": "intruder"}), DESIGN)
    with pytest.raises(UserError, match="at least 1"):
        Design(draws=0)


async def test_a_plan_counts_every_draw_and_what_is_done(
    task: Callable[..., Any], point_at: Callable[[Any], None], tmp_path: Path
) -> None:
    async with FakeProvider(by_keywords) as provider:
        point_at(provider)
        before = await plan_variance(task(), DESIGN, tmp_path / "out")
        single = await aplan(replicates(task(), DESIGN)[0], tmp_path / "out")
        assert not provider.requests
        assert before.total.calls.expected == pytest.approx(2 * single.total.calls.expected)
        assert {line.arm for line in before.lines} == {"a", "rules", "detection (random)"}
        await vary(task(), DESIGN, tmp_path / "out")
        asked = len(provider.requests)
        after = await plan_variance(task(), DESIGN, tmp_path / "out")
    assert (after.todo, after.total.calls.expected, after.total.done.calls) == (0, 0, asked)
