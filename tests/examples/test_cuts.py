"""Prompts for interventions: cut behind the first firing, over quantiles, split by documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.examples.cuts import Cut, Cuts, cuts
from harness.examples.splits import SPLITS, split_of
from harness.task import InterventionSettings, SplitSettings
from harness.values import Failure

SETTINGS = InterventionSettings(window=16, explain=6, select=3, score=15, minimum=2)
SHARES = SplitSettings()


def _cuts(dense: Any, seed: int = 0, index: int = 1, **changes: Any) -> Cuts:
    found = cuts(dense.coder, index, SETTINGS.model_copy(update=changes), SHARES, seed)
    assert isinstance(found, Cuts)
    return found


def _start(dense: Any, cut: Cut) -> int:
    return cut.place.context * dense.store.context_length + cut.place.start


def test_a_prompt_is_a_window_up_to_its_first_firing_behind_the_bos(build: Callable[..., Any]) -> None:
    dense = build(contexts=200)
    found = _cuts(dense)
    flat = dense.tokens.reshape(-1)
    assert (len(found.explain), len(found.select), len(found.score)) == (6, 3, 15)
    for cut in (*found.explain, *found.select, *found.score):
        start = _start(dense, cut)
        fires = np.flatnonzero(dense.activations[start : start + 16, 1])
        own = flat[start : start + fires[0] + 1].tolist()
        assert list(cut.tokens) == (own if cut.place.start == 0 else [0, *own])
        assert cut.text == "".join(dense.store.pieces(cut.place.context, cut.place.start, cut.place.start + len(own)))
        assert start % 16 == 0


def test_parts_come_from_the_documents_of_their_split_and_share_none(build: Callable[..., Any]) -> None:
    dense = build(contexts=200)
    found = _cuts(dense)
    documents = dense.documents.reshape(-1)
    for part, split in (("explain", "shown"), ("select", "select"), ("score", "scored"), ("anywhere", "shown")):
        own = np.array([documents[_start(dense, cut) + 1] for cut in getattr(found, part)])
        assert len(own)
        assert set(split_of(0, own, SHARES).tolist()) == {SPLITS.index(split)}


def test_prompts_are_spread_evenly_over_the_quantiles(build: Callable[..., Any]) -> None:
    found = _cuts(build(contexts=300))
    assert Counter(cut.quantile for cut in found.score) == dict.fromkeys(range(1, 6), 3)


def test_random_windows_are_whole_and_of_no_quantile(build: Callable[..., Any]) -> None:
    found = _cuts(build(contexts=200))
    assert len(found.anywhere) == 6
    assert all(len(cut.tokens) - (cut.place.start > 0) == 16 and cut.quantile == 0 for cut in found.anywhere)


def test_the_seed_and_the_latent_decide_and_nothing_else(build: Callable[..., Any]) -> None:
    dense = build(contexts=200)
    assert _cuts(dense) == _cuts(dense)
    assert _cuts(dense).score != _cuts(dense, seed=1).score
    # what is asked of one part changes no other
    assert _cuts(dense).explain == _cuts(dense, select=1).explain
    assert _cuts(dense).score == _cuts(dense, explain=2).score


def test_what_copies_a_scored_prompt_is_passed_over_and_counted(build: Callable[..., Any]) -> None:
    def copy(tokens: Any, documents: Any, activations: Any) -> None:
        # every document's windows stand in others too
        tokens[100:] = tokens[:100]
        activations[100:] = activations[:100]

    dense = build(contexts=200, change=copy)
    found = _cuts(dense)
    flat = dense.tokens.reshape(-1)
    scored = {tuple(flat[_start(dense, cut) :][:16].tolist()) for cut in found.score}
    assert found.dropped
    for cut in (*found.explain, *found.select, *found.anywhere):
        assert tuple(flat[_start(dense, cut) :][:16].tolist()) not in scored


def test_too_few_windows_are_a_failure_that_says_which(build: Callable[..., Any]) -> None:
    found = cuts(build(contexts=4).coder, 0, SETTINGS.model_copy(update={"minimum": 14}), SHARES, 0)
    assert isinstance(found, Failure)
    assert found.status == "too_few_examples"
    assert "windows of 16 tokens are left to" in found.message


def test_targets_have_to_ascend() -> None:
    with pytest.raises(ValueError, match="targets have to ascend"):
        InterventionSettings(targets=(1.0, 0.1))
