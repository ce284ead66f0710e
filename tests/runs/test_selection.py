from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import TaskError
from harness.runs.keys import latent_order
from harness.runs.selection import choose
from harness.store import Store
from harness.task import load_task


@pytest.fixture
def chosen(write_task: Callable[..., Path], store: Store) -> Callable[..., list[int]]:
    def go(limit: int | None = None, **latents: Any) -> list[int]:
        return choose(load_task(write_task(latents=latents)), store.coder("words"), limit)

    return go


def _windows(store: Store) -> np.ndarray:
    """Distinct windows of 32 that each latent fires in, counted one by one."""
    counts = np.zeros(12, int)
    for latent in range(12):
        positions = store.coder("words").latent(latent).positions
        counts[latent] = len({int(position) // 32 for position in positions})
    return counts


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(chosen: Callable[..., list[int]]) -> None:
    whole = chosen(sample=12, min_examples=1)
    assert whole == latent_order(0, "words", 12).tolist()
    assert chosen(sample=5, min_examples=1) == whole[:5]
    assert chosen(sample=12, min_examples=1, limit=3) == whole[:3]
    assert chosen(sample=100, min_examples=1) == whole


def test_only_latents_with_enough_windows_are_eligible(chosen: Callable[..., list[int]], store: Store) -> None:
    counts = _windows(store)
    least = int(np.sort(counts)[6])
    found = chosen(sample=12, min_examples=least)
    assert set(found) == set(np.flatnonzero(counts >= least).tolist())
    assert found == [latent for latent in chosen(sample=12, min_examples=1) if counts[latent] >= least]


def test_latents_that_fire_nearly_everywhere_are_not_eligible(chosen: Callable[..., list[int]], store: Store) -> None:
    counts = _windows(store)
    windows = store.n_contexts * store.context_length // 32
    most = float(np.sort(counts)[5]) / windows
    assert set(chosen(sample=12, min_examples=1, max_rate=most)) == set(np.flatnonzero(counts <= most * windows))


def test_named_latents_come_in_the_seeded_order_whatever_they_are(chosen: Callable[..., list[int]]) -> None:
    order = latent_order(0, "words", 12).tolist()
    assert chosen(ids=[7, 2, 11], min_examples=10**6) == [latent for latent in order if latent in (2, 7, 11)]


def test_a_latent_beyond_the_coders_width_is_told(chosen: Callable[..., list[int]]) -> None:
    with pytest.raises(TaskError, match=r"task\.toml: latents\.ids: 12 is beyond coder words, .* from 0 to 11$"):
        chosen(ids=[3, 12])


def test_where_none_is_eligible_the_nearest_is_told(chosen: Callable[..., list[int]], store: Store) -> None:
    most = int(_windows(store).max())
    with pytest.raises(
        TaskError, match=rf"none has at least 1000 activating windows \(most: {most}\); lower latents\."
    ):
        chosen(sample=3, min_examples=1000)
