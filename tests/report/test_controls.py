"""A report of a run with every kind of control: lifts, random latents with their rates, the exact null."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.analysis.load import Run, load
from harness.report import gather, render
from harness.report.data import ReportData
from harness.report.evidence import Arm


@pytest.fixture(scope="module")
def full(random_run: Path) -> Run:
    return load(random_run / "full")


@pytest.fixture(scope="module")
def data(full: Run) -> ReportData:
    return gather(full)


def test_lifts_are_of_the_summary_and_name_their_control(data: ReportData, full: Run) -> None:
    (row,) = (row for row in data.summary if row.arm == Arm("a"))
    line = full.summary().set_index("arm").loc["a"]
    assert [lift.control for lift in row.lifts] == full.record["task"]["controls"]
    for lift in row.lifts:
        assert lift.difference == pytest.approx(line[f"lift_{lift.control}"])
    assert row.permuted == pytest.approx((line["permuted"], line["permuted_low"], line["permuted_high"]))
    page = render(data)
    for control in full.record["task"]["controls"]:
        assert f"Lift over {control}" in page
    assert len(re.findall(r"Lift over random-\w+ <small>unpaired</small>", page)) == 2


def test_rates_of_random_latents_stand_beside_those_of_the_chosen(data: ReportData, full: Run) -> None:
    assert [line.control for line in data.populations] == [None, "random-direction", "random-coder"]
    assert [line.latents for line in data.populations] == [24, 24, len(full.latents["sae~random-coder"])]
    page = render(data)
    for line in data.populations:
        assert f"{100 * line.rates[0]:.2f} %" in page


def test_random_latents_are_counted_apart_and_compared_with_nothing(data: ReportData, full: Run) -> None:
    assert data.header.counts["latents"] == 24
    assert data.header.counts["random latents"] == 24 + len(full.latents["sae~random-coder"])
    seen = {arm.control for comparison in data.comparisons for arm in (comparison.first, comparison.second)}
    assert seen == {None, "shuffled", "none", "lexical"}


def test_a_random_latent_is_shown_with_its_examples_and_verdicts(data: ReportData) -> None:
    found = [latent for latent in data.latents if latent.latent.coder == "sae~random-direction"]
    assert len(found) == 24
    scored = next(latent for latent in found if latent.status == "ok")
    assert scored.hookpoint == "model.layers.1"
    assert [line.arm for line in scored.explanations] == [Arm("a", "random-direction")]
    assert len(scored.scored) == 20
    assert {verdict.arm for example in scored.scored for verdict in example.verdicts} == {Arm("a", "random-direction")}
    # what it fires on stands in the windows that are said to activate it
    assert all((example.activations > 0).any() == example.truth for example in scored.scored)


def test_a_run_without_populations_shows_none(random_run: Path) -> None:
    data = gather(load(random_run / "plain"))
    assert data.populations == ()
    assert "random latents" not in data.header.counts
    assert "random latents" not in render(data).split("<script")[0]
