"""The rung `misplaced`: activating windows, half of them with marks where the latent is silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from harness.examples import LatentExamples, draw
from harness.examples.marks import active_marks, mark
from harness.task import ExampleSettings, ScoredSettings, ShownSettings
from harness.values import Example, Passage, Place, ScoredSet

WINDOW, THRESHOLD = 32, 0.3


def drawn(made: Any, *, count: int = 50, seed: int = 0, peak: int | None = None) -> tuple[LatentExamples, ScoredSet]:
    scored = ScoredSettings(activating=count, non_activating=count, rungs=("random", "misplaced"))
    settings = ExampleSettings(window=WINDOW, peak=peak, shown=ShownSettings(count=20), scored=scored)
    found = draw(made.coder, 0, settings, seed)
    assert isinstance(found, LatentExamples)
    return found, found.scored[1]


def window_of(example: Example) -> tuple[int, int]:
    place = example.passage.place
    assert place is not None
    return place.context, place.start


@pytest.mark.parametrize("peak", [None, 16])
def test_all_windows_activate_and_half_are_marked_wrongly(build: Callable[..., Any], peak: int | None) -> None:
    made = build(contexts=600, rates=(0.03,), vocabulary=60)
    found, scored = drawn(made, peak=peak)
    assert scored.rung == "misplaced"
    assert found.counts["scored_misplaced"] == 50
    passages = mark(scored, THRESHOLD, 1)
    right = [example.activating for example in scored.examples]
    assert right.count(True) == right.count(False) == 50
    for example, passage in zip(scored.examples, passages, strict=True):
        context, start = window_of(example)
        dense = made.activations.reshape(600, -1)[context, start : start + WINDOW]
        assert (example.activations == dense).all()
        assert dense.max() > 0
        if example.activating:
            assert passage.marks == active_marks(example, THRESHOLD)
            assert example.quantile is not None
        else:
            assert passage.marks
            assert not dense[list(passage.marks)].any()
            assert (example.quantile, example.rung) == (None, "misplaced")
    # half of each decile is right
    assert Counter(example.quantile for example in scored.examples) == {None: 50} | dict.fromkeys(range(1, 11), 5)
    # each pattern of a right one is that of a wrong one
    sizes = [
        sorted(len(p.marks) for p, own in zip(passages, right, strict=True) if own is side) for side in (True, False)
    ]
    assert sizes[0] == sizes[1]


def test_windows_are_distinct_and_of_the_scored_split(build: Callable[..., Any]) -> None:
    made = build(contexts=600, rates=(0.03,), vocabulary=60)
    found, scored = drawn(made)
    windows = [window_of(example) for example in scored.examples]
    assert len(set(windows)) == len(windows)
    documents = {int(made.documents[context, start + 1]) for context, start in windows}
    seen = {int(made.documents[window_of(one)[0], window_of(one)[1] + 1]) for one in (*found.shown, *found.select)}
    assert not documents & seen


def test_both_halves_are_as_strong_and_stand_anywhere(build: Callable[..., Any]) -> None:
    made = build(contexts=600, rates=(0.03,), vocabulary=60)
    stronger = first = 0
    for seed in range(200):
        _, scored = drawn(made, seed=seed, count=10)
        peaks: dict[bool, list[float]] = {True: [], False: []}
        for example in scored.examples:
            peaks[example.activating].append(float(example.activations.max()))
        stronger += np.mean(peaks[True]) > np.mean(peaks[False])
        first += scored.examples[0].activating
    assert binomtest(int(stronger), 200).pvalue > 1e-3
    assert binomtest(first, 200).pvalue > 1e-3


def test_dense_windows_have_no_room_and_few_are_a_smaller_rung(build: Callable[..., Any]) -> None:
    found, scored = drawn(build(contexts=60, rates=(0.03,), vocabulary=60), count=50)
    assert len(scored.examples) == 2 * found.counts["scored_misplaced"] < 100
    dense = build(contexts=300, rates=(0.6,), vocabulary=60)
    settings = ExampleSettings(window=WINDOW, scored=ScoredSettings(minimum=2, rungs=("random", "misplaced")))
    some = draw(dense.coder, 0, settings, 0)
    if isinstance(some, LatentExamples):
        for one in (example for rung in some.scored if rung.rung == "misplaced" for example in rung.examples):
            assert np.count_nonzero(one.activations) <= WINDOW // 2


def test_where_no_pattern_fits_a_silent_token_is_marked(build: Callable[..., Any]) -> None:
    def comb(tokens: np.ndarray, documents: np.ndarray, dense: np.ndarray) -> None:
        # pairs of activating tokens with one silent one between them: no pattern of two has room
        dense[..., 0] = np.arange(dense.shape[1]) % 3 > 0

    made = build(contexts=300, rates=(0.1,), vocabulary=60, change=comb)
    scored = ScoredSet(
        "misplaced",
        tuple(
            Example(one.passage, one.activations, None, "misplaced" if number % 2 else None)
            for number, one in enumerate(_windows(made, 8))
        ),
    )
    for example, passage in zip(scored.examples, mark(scored, THRESHOLD, 0), strict=True):
        if not example.activating:
            assert len(passage.marks) == 1
            assert not example.activations[list(passage.marks)].any()


def _windows(made: Any, count: int) -> list[Example]:
    starts = np.arange(count) * 64 + 32
    texts = made.store.window_pieces(starts, WINDOW)
    dense = made.activations.reshape(-1)
    return [
        Example(
            Passage(text, (), Place(made.store.id, int(at) // 64, int(at) % 64), made.store), dense[at : at + WINDOW]
        )
        for text, at in zip(texts, starts, strict=True)
    ]
