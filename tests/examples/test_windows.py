"""Windows lie on a grid; their maxima and activations are those of a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples.windows import activating_windows, contained, dense_activations
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


@pytest.mark.parametrize("ascending", [[], [3], [1, 4, 9]])
def test_contained_is_membership(ascending: list[int]) -> None:
    items = np.arange(-2, 12).reshape(2, 7)
    assert contained(items, np.array(ascending, dtype=np.int64)).tolist() == np.isin(items, ascending).tolist()
