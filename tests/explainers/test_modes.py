"""Modes: clusters against scikit-learn's, and bags and silhouettes against what they are defined to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score

from harness.explainers.modes import around, bags, modes, silhouette
from harness.values import Example, Passage


def example(text: str, fires: dict[int, float]) -> Example:
    tokens = tuple(text.split("|"))
    activations = np.zeros(len(tokens), np.float32)
    for place, value in fires.items():
        activations[place] = value
    return Example(Passage(tokens), activations)


@pytest.mark.parametrize("seed", range(5))
def test_modes_are_wards_clusters_of_the_number_with_the_largest_silhouette(seed: int) -> None:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(3, 12))
    vectors = centres[generator.integers(0, 3, 40)] + 0.7 * generator.normal(size=(40, 12))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = {}
    for count in (2, 3, 4):
        labels = AgglomerativeClustering(count, linkage="ward").fit_predict(unit)
        if np.bincount(labels).min() >= 3:
            expected[silhouette_score(unit, labels, metric="cosine")] = labels
    height = max(expected)
    found, value = modes(vectors, 4, 3)
    assert value == pytest.approx(height, abs=1e-5)
    same = expected[height][:, None] == expected[height]
    assert ((found[:, None] == found) == same).all()
    assert found[0] == 0


def test_silhouettes_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    points = generator.normal(size=(30, 4))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    labels = generator.integers(0, 4, 30)
    labels[:4] = range(4)
    labels[5] = 4  # alone
    labels[labels == 4] = np.where(np.flatnonzero(labels == 4) == 5, 4, 0)
    assert silhouette(distances, labels) == pytest.approx(silhouette_score(distances, labels, metric="precomputed"))


@pytest.mark.parametrize(("windows", "least"), [(5, 3), (0, 1), (1, 1)])
def test_too_few_windows_are_one_mode(windows: int, least: int) -> None:
    found, value = modes(np.eye(8)[:windows], 3, least)
    assert found.tolist() == [0] * windows
    assert value is None


def test_a_mode_of_too_few_windows_is_none() -> None:
    vectors = np.repeat(np.eye(2), [9, 1], axis=0)
    assert modes(vectors, 2, 2)[1] is None
    assert modes(vectors, 2, 1) == (pytest.approx(np.array([0] * 9 + [1])), pytest.approx(0.9))


def test_windows_without_anything_in_common_with_others_have_no_direction() -> None:
    found, _ = modes(np.zeros((10, 3)), 2, 2)
    assert len(found) == 10


def test_a_bag_weighs_what_fires_most_and_leaves_out_what_stands_in_one_window() -> None:
    shown = [example(" The| cat| the|,| once", {1: 1.0}), example("cat| dog", {1: 1.0}), example(" dog| THE", {})]
    idf = {"cat": math.log(3 / 2), "dog": math.log(3 / 2), "the": math.log(3 / 2)}
    expected = [
        [(1 + math.log(3)) * idf["cat"], 0, (1 + math.log(2)) * idf["the"]],
        [idf["cat"], (1 + math.log(3)) * idf["dog"], 0],
        [0, idf["dog"], idf["the"]],
    ]
    assert bags(shown) == pytest.approx(np.array(expected))


def test_around_is_the_neighbourhood_of_the_strongest_token() -> None:
    tokens = "|".join(f" t{place}" for place in range(30))
    assert around(example(tokens, {12: 1.0, 20: 3.0})) == "".join(f" t{place}" for place in range(12, 25))
    assert around(example(tokens, {2: 1.0})) == "".join(f" t{place}" for place in range(7))
