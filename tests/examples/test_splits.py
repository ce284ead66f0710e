"""Documents are split, not windows: one hash for everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from harness.errors import StoreError
from harness.examples.splits import NO_SPLIT, SPLITS, grid_of, split_of
from harness.task import SplitSettings

SHARES = SplitSettings()


@pytest.mark.parametrize("shares", [SHARES, SplitSettings(shown=0.2, select=0.0, scored=0.8)])
def test_documents_fall_into_the_splits_by_their_shares(shares: SplitSettings) -> None:
    found = np.bincount(split_of(3, np.arange(20_000), shares), minlength=3)
    expected = 20_000 * np.array([shares.shown, shares.select, shares.scored])
    assert (found[expected == 0] == 0).all()
    assert chisquare(found[expected > 0], expected[expected > 0]).pvalue > 0.001


def test_seeds_split_independently() -> None:
    documents = np.arange(20_000)
    one, two = split_of(1, documents, SHARES) == 0, split_of(2, documents, SHARES) == 0
    assert abs((one & two).mean() - 0.16) < 0.01


def test_neighbouring_documents_split_independently() -> None:
    shown = split_of(1, np.arange(20_000), SHARES) == 0
    assert abs((shown[1:] & shown[:-1]).mean() - 0.16) < 0.01


def test_the_split_of_a_document_does_not_depend_on_the_others() -> None:
    documents = np.array([5, 900, 5, 17])
    alone = [int(split_of(9, np.array([document]), SHARES)[0]) for document in documents]
    assert split_of(9, documents, SHARES).tolist() == alone


def test_the_split_of_a_document_never_changes() -> None:
    # stores, journals and reports of earlier runs rely on it
    assert split_of(0, np.arange(12), SHARES).tolist() == [2, 0, 0, 1, 0, 2, 2, 1, 2, 0, 2, 2]


def test_every_window_of_a_document_is_in_its_split(build: Any) -> None:
    made = build()
    grid = grid_of(made.store, 16, 5, SHARES)
    owner = made.documents.reshape(-1, 16)
    for split, cells in zip(grid.split.tolist(), owner, strict=True):
        inside = {int(cell) for cell in cells if cell >= 0}
        if len(inside) == 1:
            assert split == split_of(5, np.array([inside.pop()]), SHARES)[0]
        else:
            assert split == NO_SPLIT
    for place, name in enumerate(SPLITS):
        assert grid.members[name].tolist() == np.flatnonzero(grid.split == place).tolist()
    assert grid.n_usable == sum(len(members) for members in grid.members.values())


def test_a_window_that_does_not_divide_the_context_is_refused(build: Any) -> None:
    with pytest.raises(StoreError, match="windows of 24 tokens do not divide"):
        grid_of(build(contexts=4).store, 24, 0, SHARES)
