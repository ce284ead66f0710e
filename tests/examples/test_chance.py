"""Generators follow from seed, coder, latent and purpose, and are as random as any."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.stats import chisquare, kstest

from harness.examples.chance import Chance


def test_equal_parts_give_equal_numbers_and_any_other_part_gives_others() -> None:
    parts = itertools.product((0, 1), ("a", "b"), (0, 1, 12), ("x", "2x", "y"))
    first = {part: Chance(*part[:3]).generator(part[3]).integers(2**63) for part in parts}
    assert len(set(first.values())) == len(first)
    again = Chance(1, "b", 12)
    again.generator("y").random(100)
    assert again.generator("2x").integers(2**63) == first[1, "b", 12, "2x"]
    assert again.generator("2x").integers(2**63) == first[1, "b", 12, "2x"]


def test_a_draw_stays_what_it_is_from_one_release_to_the_next() -> None:
    assert Chance(0, "sae", 3).generator("shown").integers(1000, size=4).tolist() == [630, 871, 882, 848]


def test_numbers_are_uniform_within_one_generator_and_over_neighbouring_latents() -> None:
    assert kstest(Chance(0, "a", 0).generator("x").random(20_000), "uniform").pvalue > 1e-3
    first = np.array([Chance(0, "a", latent).generator("x").random(2) for latent in range(5_000)])
    assert kstest(first[:, 0], "uniform").pvalue > 1e-3
    cells = np.floor(10 * first[:, 0]) * 10 + np.floor(10 * first[:, 1])
    assert chisquare(np.bincount(cells.astype(int), minlength=100)).pvalue > 1e-3
    pairs = np.floor(10 * first[:-1, 0]) * 10 + np.floor(10 * first[1:, 0])
    assert chisquare(np.bincount(pairs.astype(int), minlength=100)).pvalue > 1e-3
