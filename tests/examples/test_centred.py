"""Centred windows: a peak at a set place, no overlap, nothing lost at edges; silent windows begin anywhere, too."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import LatentExamples, draw
from harness.examples.centred import Centring
from harness.examples.choosing import Choice, choose
from harness.examples.splits import SPLITS, split_of
from harness.examples.windows import dense_activations
from harness.store import Firings
from harness.task import ExampleSettings, ScoredSettings

WINDOW, PEAK = 32, 20
SETTINGS = ExampleSettings(window=WINDOW, peak=PEAK, scored=ScoredSettings(activating=50, non_activating=50))


@pytest.fixture
def made(build: Any) -> Any:
    return build(contexts=120, context=256, rates=(0.004, 0.02, 0.3), vocabulary=500, document_length=400)


@st.composite
def firings(draw_: st.DrawFn) -> tuple[Firings, np.ndarray]:
    contexts, length = draw_(st.integers(1, 3)), draw_(st.integers(6, 24))
    edges = draw_(st.lists(st.booleans(), min_size=contexts * length, max_size=contexts * length))
    documents = np.cumsum(edges).astype(np.int32).reshape(contexts, length)
    documents[:, 0] = -1
    where = sorted(draw_(st.sets(st.integers(0, contexts * length - 1))))
    where = [position for position in where if documents.reshape(-1)[position] >= 0]
    strength = draw_(st.lists(st.integers(1, 5), min_size=len(where), max_size=len(where)))
    return Firings(np.array(where, dtype=np.int64), np.array(strength, dtype=np.float32)), documents


@given(firings(), st.integers(1, 6), st.data())
@settings(deadline=None, max_examples=300)
def test_windows_hold_every_peak_that_has_room(
    found: tuple[Firings, np.ndarray], length: int, data: st.DataObject
) -> None:
    fired, documents = found
    peak = data.draw(st.integers(0, length - 1))
    context = documents.shape[1]
    windows, own, lost = Centring(length, peak, documents).activating(fired)
    covered: Counter[int] = Counter()
    for start, document, maximum in zip(windows.starts.tolist(), own.tolist(), windows.maxima.tolist(), strict=True):
        cells = range(start, start + length)
        covered.update(cells)
        assert start // context == (start + length - 1) // context
        held = {int(documents.reshape(-1)[cell]) for cell in cells} - {-1}
        assert held == {document}
        inside = [value for at, value in zip(fired.positions, fired.values, strict=True) if at in cells]
        assert maximum == max(inside)
    assert max(covered.values(), default=1) == 1
    # what is in no window had no room: no stretch of its document, free of windows, is long enough and holds it
    left = [int(position) for position in fired.positions if int(position) not in covered]
    assert len(left) >= lost
    assert (not left) == (lost == 0)
    for position in left:
        row = position // context * context
        free = [
            start
            for start in range(max(row, position - length + 1), min(row + context - length, position) + 1)
            if not any(cell in covered for cell in range(start, start + length))
            and {int(documents.reshape(-1)[cell]) for cell in range(start, start + length)} - {-1}
            == {int(documents.reshape(-1)[position])}
        ]
        assert not free
    dense = dense_activations(windows, fired, length)
    for row_, start in zip(dense, windows.starts.tolist(), strict=True):
        expected = np.zeros(length)
        for at, value in zip(fired.positions.tolist(), fired.values.tolist(), strict=True):
            if start <= at < start + length:
                expected[at - start] = value
        assert row_.tolist() == expected.tolist()


def test_the_peak_stands_at_its_place_unless_an_edge_is_near() -> None:
    documents = np.zeros((1, 100), dtype=np.int32)
    fired = Firings(np.array([3, 50, 97]), np.array([1.0, 2.0, 3.0], dtype=np.float32))
    windows, _, lost = Centring(10, 4, documents).activating(fired)
    assert windows.starts.tolist() == [0, 46, 90]
    assert lost == 0


def test_a_weaker_firing_beside_a_peak_is_moved_away_from_it() -> None:
    documents = np.zeros((1, 100), dtype=np.int32)
    fired = Firings(np.array([50, 57]), np.array([2.0, 1.0], dtype=np.float32))
    windows, _, _ = Centring(10, 4, documents).activating(fired)
    # 50 is in 46 to 55; 57's own would begin at 53
    assert windows.starts.tolist() == [46, 56]


def test_centred_examples_have_the_peak_at_its_place_mostly(made: Any) -> None:
    found = draw(made.coder, 1, SETTINGS, 0)
    assert isinstance(found, LatentExamples)
    active = [example for example in found.scored[0].examples if example.activating]
    places = [int(np.argmax(example.activations)) for example in (*active, *found.shown)]
    assert np.mean([place == PEAK for place in places]) > 0.6
    assert found.counts["centred_windows"] > 0
    assert found.base_rate == pytest.approx(made.coder.windows(WINDOW)[1] / made.store.n_windows(WINDOW))


def test_silent_windows_are_silent_of_one_document_and_of_the_scored_split(made: Any) -> None:
    for index in (0, 1):
        found = choose(made.coder, index, SETTINGS, 3)
        assert isinstance(found, Choice)
        chosen = found.scored["random"]
        own = made.activations[:, index]
        documents = made.documents.reshape(-1)
        for start, active in zip(chosen.starts.tolist(), chosen.active.tolist(), strict=True):
            held = np.unique(documents[start : start + WINDOW])
            held = held[held >= 0]
            assert len(held) == 1
            assert SPLITS[split_of(3, held, SETTINGS.split)[0]] == "scored"
            assert own[start : start + WINDOW].any() == active
        silent = np.sort(chosen.starts[~chosen.active])
        assert len(silent) == chosen.active.sum() > 20
        assert (np.diff(silent) >= WINDOW).all()


def test_where_windows_begin_tells_nothing(made: Any) -> None:
    # places in the context of activating and of silent windows, over latents that fire anywhere
    places: dict[bool, list[int]] = {True: [], False: []}
    for seed in range(60):
        found = choose(made.coder, 0, SETTINGS, seed)
        if isinstance(found, Choice):
            chosen = found.scored["random"]
            for start, active in zip(chosen.starts.tolist(), chosen.active.tolist(), strict=True):
                places[active].append(start % made.store.context_length)
    for split in range(1, 8):
        edge = split * WINDOW
        shares = [np.mean(np.array(places[active]) < edge) for active in (True, False)]
        assert abs(shares[0] - shares[1]) < 0.06


def test_hard_rungs_go_with_centred_windows(made: Any) -> None:
    scored = ScoredSettings(activating=50, non_activating=50, rungs=("random", "same-token", "cooccurring"))
    found = choose(made.coder, 1, SETTINGS.model_copy(update={"scored": scored}), 0)
    assert isinstance(found, Choice)
    assert {"same-token", "cooccurring"} <= set(found.scored)
    for chosen in found.scored.values():
        for start, active in zip(chosen.starts.tolist(), chosen.active.tolist(), strict=True):
            assert made.activations[start : start + WINDOW, 1].any() == active


def test_a_peak_beyond_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 31"):
        ExampleSettings(window=32, peak=32)
