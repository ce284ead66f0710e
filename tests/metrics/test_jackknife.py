"""Which latents are left out together."""

from __future__ import annotations

import numpy as np
import pytest

from harness.metrics.jackknife import MAX_GROUPS, fisher_interval, latent_groups


@pytest.mark.parametrize("latents", [1, 20, 199, 200, 201, 300, 999, 5000])
def test_groups_are_of_nearly_equal_size_and_keep_a_latents_rows_together(latents: int) -> None:
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(latents) * 7, 2))
    group, groups = latent_groups(rows)
    assert groups <= MAX_GROUPS
    sizes = np.bincount(group, minlength=groups)
    assert sizes.max() - sizes.min() <= 2
    for latent in np.unique(rows)[:50]:
        assert len(set(group[rows == latent].tolist())) == 1


def test_up_to_two_hundred_latents_each_is_a_group() -> None:
    assert latent_groups(np.arange(200))[1] == 200
    assert latent_groups(["b", "a", "b"])[1] == 2
    assert latent_groups([])[1] == 0


def test_a_statistic_that_leaves_no_number_has_no_interval() -> None:
    nothing = fisher_interval(lambda weights: np.full(len(weights), np.nan), np.arange(30), level=0.95)
    assert nothing is None


def test_the_least_error_widens_an_interval() -> None:
    def constant(weights: np.ndarray) -> np.ndarray:
        return np.full(len(weights), 0.5)

    narrow = fisher_interval(constant, np.arange(30), level=0.95)
    wide = fisher_interval(constant, np.arange(30), level=0.95, least_error=0.1)
    assert narrow is not None
    assert wide is not None
    assert narrow.low == pytest.approx(0.5)
    assert wide.low < 0.4 < 0.6 < wide.high
