"""Runs of tokens that a store has twice are found, and draws are those of comparing every window with every other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.examples import LatentExamples, choosing, draw, repeats
from harness.examples.repeats import RUN, repeats_of, run_hashes
from harness.store import Store
from harness.task import ExampleSettings, ScoredSettings, ShownSettings
from harness.values import Example

CONTEXT = 64
Runs = set[tuple[int, ...]]


def copied(tokens: NDArray[np.uint32], documents: NDArray[np.int32], dense: NDArray[np.float32]) -> None:
    """Random text of many words, in which stretches of 10 to 40 tokens stand again elsewhere."""
    generator = np.random.default_rng(3)
    tokens[:] = generator.integers(1, 60, tokens.shape)
    for _ in range(len(tokens) // 2):
        length = int(generator.integers(10, 41))
        (a, b), (i, j) = generator.integers(len(tokens), size=2), generator.integers(CONTEXT - length, size=2)
        tokens[a, i : i + length] = tokens[b, j : j + length]


def runs_of(store: Store, start: int, length: int) -> list[tuple[int, ...]]:
    """The runs of a window, by slicing."""
    run, window = min(RUN, length), store.tokens.reshape(-1)[start : start + length].tolist()
    return [tuple(window[k : k + run]) for k in range(length - run + 1)]


def windows_of(store: Store, length: int) -> NDArray[np.int64]:
    """The starts of windows on the grid, and of some that do not lie on it."""
    starts = np.arange(0, store.n_tokens, length)
    return np.unique(np.concatenate([starts, starts[starts % CONTEXT <= CONTEXT - length - 5] + 5]))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("length", [8, 16, 23, 32, 64])
def test_repeated_runs_are_those_that_a_counter_finds(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, length: int, parts: int
) -> None:
    store = build(contexts=80, context=CONTEXT, vocabulary=60, change=copied).store
    monkeypatch.setattr(repeats, "_MOST", -(-store.n_tokens // parts))
    monkeypatch.setattr(repeats, "_CHUNK", 37)
    run = min(RUN, length)
    counts = Counter(tuple(row[at : at + run]) for row in store.tokens.tolist() for at in range(CONTEXT - run + 1))
    ours = repeats_of(store, length)
    numbers: dict[tuple[int, ...], int] = {}
    found = 0
    for start in windows_of(store, length).tolist():
        again = sorted({one for one in runs_of(store, start, length) if counts[one] > 1})
        inside = ours.inside(np.array([start]), length)
        assert len(inside) == len(again)
        assert (np.diff(inside.astype(np.int64)) > 0).all()
        found += len(again)
        if len(again) == 1:
            assert numbers.setdefault(again[0], int(inside[0])) == inside[0]
    assert found > 50
    assert len(set(numbers.values())) == len(numbers)


@pytest.mark.parametrize("length", [8, 16, 32, 64])
def test_windows_that_share_a_run_are_those_that_sets_find(build: Callable[..., Any], length: int) -> None:
    store = build(contexts=80, context=CONTEXT, vocabulary=60, change=copied).store
    windows = np.random.default_rng(length).permutation(windows_of(store, length))
    # a position is in one of the two only, or a window would share a run with itself
    some, others = windows[windows < store.n_tokens // 2], windows[windows >= store.n_tokens // 2]
    ours = repeats_of(store, length)
    known: Runs = {run for start in some.tolist() for run in runs_of(store, start, length)}
    expected = [bool(known & set(runs_of(store, start, length))) for start in others.tolist()]
    assert ours.shared(others, length, ours.inside(some, length)).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_a_window_without_repeats_shares_none(build: Callable[..., Any]) -> None:
    # 40,000 pairs of windows of which none has a run twice: hashes that met by chance would show
    store = build(contexts=200, context=CONTEXT, vocabulary=500).store
    windows, ours = np.arange(0, store.n_tokens, 32), repeats_of(store, 32)
    assert not len(ours.inside(windows, 32))
    assert not ours.shared(windows, 32, np.arange(5, dtype=np.uint32)).any()


def test_what_was_found_lies_beside_the_store_and_is_read_again(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = build(contexts=80, context=CONTEXT, vocabulary=60, change=copied).store
    starts = np.arange(0, store.n_tokens, 32)
    found = repeats_of(store, 32).inside(starts, 32)
    (path,) = store.path.glob("runs-16-*.npy")
    assert store.id[:12] in path.name
    monkeypatch.setattr(repeats, "run_hashes", None)
    assert repeats_of(Store.open(store.path), 32).inside(starts, 32).tolist() == found.tolist() != []


@pytest.mark.parametrize("harm", ["torn", "changed", "not to be written"])
def test_a_file_that_is_harmed_or_cannot_be_written_is_done_without(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    store = build(contexts=80, context=CONTEXT, vocabulary=60, change=copied).store
    starts = np.arange(0, store.n_tokens, 32)
    found = repeats_of(store, 32).inside(starts, 32)
    (path,) = store.path.glob("runs-16-*.npy")
    data = path.read_bytes()
    if harm == "torn":
        path.write_bytes(data[:-5])
    elif harm == "changed":
        path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    else:
        path.unlink()
        monkeypatch.setattr(repeats, "_name", lambda *_: "no folder/runs")
    assert repeats_of(Store.open(store.path), 32).inside(starts, 32).tolist() == found.tolist()


class Plain:
    """Compares the tokens of every window with those of every other."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def inside(self, windows: NDArray[np.int64], length: int) -> Runs:
        return {run for start in windows.tolist() for run in runs_of(self._store, start, length)}

    def shared(self, windows: NDArray[np.int64], length: int, runs: Runs) -> NDArray[np.bool_]:
        return np.array([bool(runs & self.inside(windows[k : k + 1], length)) for k in range(len(windows))], dtype=bool)


@pytest.mark.parametrize("peak", [None, 16])
def test_draws_are_those_of_comparing_every_window(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, peak: int | None
) -> None:
    asked = ExampleSettings(
        peak=peak,
        shown=ShownSettings(count=60),
        scored=ScoredSettings(activating=40, non_activating=40, rungs=("random", "cooccurring")),
    )

    def drawn() -> list[LatentExamples]:
        made = build(contexts=300, context=CONTEXT, rates=(0.02, 0.03), vocabulary=60, change=copied)
        found = [draw(made.coder, index, asked, 0) for index in range(2)]
        return [one for one in found if isinstance(one, LatentExamples)]

    def seen(one: LatentExamples) -> list[Any]:
        def tokens(examples: tuple[Example, ...]) -> list[Any]:
            return [example.passage.tokens for example in examples]

        return [tokens(one.shown), tokens(one.select), [tokens(rung.examples) for rung in one.scored], one.counts]

    ours = drawn()
    monkeypatch.setattr(choosing, "repeats_of", lambda store, window: Plain(store))
    plain = drawn()
    assert len(ours) == 2
    assert [seen(one) for one in ours] == [seen(one) for one in plain]
    assert sum(one.counts["shown_dropped"] + one.counts["select_dropped"] for one in ours) > 0
    # centred windows of related latents are fewer
    assert peak is not None or sum(one.counts["scored_cooccurring_dropped"] for one in ours) > 0


@given(st.data(), st.integers(16, 40), st.integers(1, 17))
@settings(deadline=None, max_examples=60)
def test_equal_runs_have_equal_hashes_and_others_do_not(data: st.DataObject, length: int, run: int) -> None:
    # few kinds of tokens, so that equal runs at different places are common
    row = st.lists(st.integers(0, 2), min_size=length, max_size=length)
    tokens = np.array(data.draw(st.lists(row, min_size=1, max_size=4)), dtype=np.uint32)
    run = min(run, length)
    hashes = run_hashes(tokens, run)
    assert hashes.shape == (len(tokens), length - run + 1)
    seen: dict[tuple[int, ...], int] = {}
    for index in np.ndindex(hashes.shape):
        text = tuple(tokens[index[0], index[1] : index[1] + run].tolist())
        assert seen.setdefault(text, int(hashes[index])) == int(hashes[index])
    assert len(set(seen.values())) == len(seen)


def test_token_ids_up_to_the_largest_are_told_apart() -> None:
    tokens = np.array([[0] * 16, [2**32 - 1] * 16, [1] * 16, [0] * 15 + [1], [1] + [0] * 15], dtype=np.uint32)
    assert len(np.unique(run_hashes(tokens, RUN))) == 5
