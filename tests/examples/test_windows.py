"""Windows lie on a grid; their maxima and activations are those of a loop; shared runs of tokens are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples.windows import (
    RUN,
    Runs,
    activating_windows,
    contained,
    dense_activations,
    run_hashes,
)
from harness.store import Firings


@given(
    positions=st.sets(st.integers(0, 400)),
    length=st.sampled_from([1, 4, 8, 32]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=100)
def test_windows_are_those_of_a_loop(positions: set[int], length: int, seed: int) -> None:
    where = np.array(sorted(positions), dtype=np.int64)
    values = np.random.default_rng(seed).random(len(where)).astype(np.float32) + np.float32(0.1)
    expected: dict[int, list[float]] = {}
    for position, value in zip(where.tolist(), values.tolist(), strict=True):
        expected.setdefault(position // length, [0.0] * length)[position % length] = value
    firings = Firings(where, values)
    windows = activating_windows(firings, length)
    assert windows.starts.tolist() == [number * length for number in expected]
    assert windows.maxima.tolist() == [max(cells) for cells in expected.values()]
    assert dense_activations(windows, firings, length).tolist() == list(expected.values())
    chosen = np.random.default_rng(seed).permutation(len(windows))[:3]
    assert dense_activations(windows.take(chosen), firings, length).tolist() == [
        list(expected.values())[index] for index in chosen
    ]


def test_a_window_never_crosses_a_context(build: Any) -> None:
    made = build(contexts=6, context=64, rates=(0.5,))
    windows = activating_windows(made.coder.latent(0), 32)
    tokens = made.store.window_tokens(windows.starts, 32)
    for first, row in zip(windows.starts.tolist(), tokens, strict=True):
        context, start = divmod(first, 64)
        assert row.tolist() == made.tokens[context, start : start + 32].tolist()


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
    assert len(np.unique(run_hashes(tokens))) == 5


def test_a_window_shorter_than_the_run_counts_whole() -> None:
    tokens = np.arange(16, dtype=np.uint32).reshape(2, 8)
    assert run_hashes(tokens, RUN).shape == (2, 1)


@pytest.mark.parametrize("ascending", [[], [3], [1, 4, 9]])
def test_contained_is_membership(ascending: list[int]) -> None:
    items = np.arange(-2, 12).reshape(2, 7)
    assert contained(items, np.array(ascending, dtype=np.int64)).tolist() == np.isin(items, ascending).tolist()


@given(st.data(), st.integers(16, 24))
@settings(deadline=None, max_examples=60)
def test_windows_that_share_a_run_are_found(data: st.DataObject, length: int) -> None:
    row = st.lists(st.integers(0, 1), min_size=length, max_size=length)
    some, others = (data.draw(st.lists(row, min_size=1, max_size=6)) for _ in range(2))
    known = {tuple(one[k : k + RUN]) for one in some for k in range(length - RUN + 1)}
    shares = [any(tuple(one[k : k + RUN]) in known for k in range(length - RUN + 1)) for one in others]
    runs = Runs(np.array(some, dtype=np.uint32))
    assert runs.in_windows(np.array(others, dtype=np.uint32)).tolist() == shares


def test_many_windows_share_none_by_chance() -> None:
    tokens = np.random.default_rng(0).integers(0, 500, (4000, 32)).astype(np.uint32)
    runs = Runs(tokens[:2000])
    assert not runs.in_windows(tokens[2000:]).any()
    assert runs.in_windows(tokens[:2000]).all()
