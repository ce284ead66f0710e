"""What each sampler draws, and how often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from harness.examples.samplers import SAMPLERS, draw_from, quantile_labels, sample, stratified


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def nothing(items: np.ndarray) -> np.ndarray:
    return np.zeros(len(items), dtype=bool)


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 12))
@settings(deadline=None, max_examples=100)
def test_quantiles_are_equal_rank_slices_with_ties_by_position(strengths: list[int], count: int) -> None:
    maxima = np.array(strengths, dtype=np.float32)
    labels = quantile_labels(maxima, count)
    ranked = sorted(range(len(strengths)), key=lambda place: (strengths[place], place))
    assert [int(labels[place]) for place in ranked] == [rank * count // len(ranked) + 1 for rank in range(len(ranked))]
    sizes = [int((labels == label).sum()) for label in range(1, count + 1)]
    assert max(sizes) - min(sizes) <= 1


def test_the_weakest_are_quantile_one_and_the_strongest_ten() -> None:
    labels = quantile_labels(np.array([5, 1, 9, 3, 7, 2, 8, 4, 6, 10], dtype=np.float32), 10)
    assert labels.tolist() == [5, 1, 9, 3, 7, 2, 8, 4, 6, 10]


def draw(sampler: str, maxima: np.ndarray, count: int, seed: int) -> np.ndarray:
    return sample(sampler, maxima, quantile_labels(maxima, 10), count, nothing, generator(seed))[0]


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_no_window_is_drawn_twice(sampler: str) -> None:
    maxima = generator().random(60).astype(np.float32)
    for seed in range(20):
        drawn = draw(sampler, maxima, 40, seed)
        assert len(set(drawn.tolist())) == len(drawn) == 40


def test_random_draws_every_window_equally_often() -> None:
    maxima = generator().random(50).astype(np.float32)
    times = Counter(place for seed in range(2000) for place in draw("random", maxima, 10, seed).tolist())
    # draws without replacement vary less than independent ones, by 1 - 10/50
    assert chisquare([times[place] for place in range(50)]).statistic / 0.8 < 90


def test_random_draws_every_place_in_the_order_equally_often() -> None:
    maxima = generator().random(8).astype(np.float32)
    first = Counter(int(draw("random", maxima, 3, seed)[0]) for seed in range(2000))
    assert chisquare([first[place] for place in range(8)]).pvalue > 0.001


def test_top_draws_the_strongest_first_with_ties_by_position() -> None:
    maxima = np.array([3, 9, 1, 9, 4], dtype=np.float32)
    assert draw("top", maxima, 4, 0).tolist() == [1, 3, 4, 0]


def test_quantiles_draws_equally_from_each_and_uniformly_within() -> None:
    maxima = np.arange(100, dtype=np.float32)
    times: Counter[int] = Counter()
    for seed in range(1000):
        drawn = draw("quantiles", maxima, 40, seed)
        assert Counter((drawn // 10).tolist()) == dict.fromkeys(range(10), 4)
        times.update(drawn.tolist())
    assert chisquare([times[place] for place in range(100)]).statistic / 0.6 < 150


def test_quantiles_leaves_the_remainder_to_chance() -> None:
    maxima = np.arange(100, dtype=np.float32)
    more: Counter[int] = Counter()
    for seed in range(1000):
        drawn = Counter((draw("quantiles", maxima, 13, seed) // 10).tolist())
        assert sorted(drawn.values()) == [1] * 7 + [2] * 3
        more.update(label for label, times in drawn.items() if times == 2)
    assert chisquare([more[label] for label in range(10)]).pvalue > 0.001


def test_mix_draws_one_in_five_from_the_top_and_the_rest_equally_from_each_tenth_of_what_is_left() -> None:
    maxima = np.arange(108, dtype=np.float32)
    times: Counter[int] = Counter()
    for seed in range(500):
        drawn = draw("mix", maxima, 38, seed)
        assert set(range(100, 108)) <= set(drawn.tolist())
        assert Counter((drawn[drawn < 100] // 10).tolist()) == dict.fromkeys(range(10), 3)
        times.update(drawn[drawn < 100].tolist())
    assert chisquare([times[place] for place in range(100)]).statistic / 0.7 < 150


def test_mix_tells_by_the_order_nothing_of_the_strength() -> None:
    maxima = np.arange(60, dtype=np.float32)
    first = Counter(int(draw("mix", maxima, 20, seed)[0]) >= 56 for seed in range(1000))
    assert 150 < first[True] < 260  # four of twenty are of the top, wherever they stand


def test_mix_gives_as_many_as_asked_where_the_top_takes_all_of_the_highest_tenth() -> None:
    assert len(draw("mix", np.arange(80, dtype=np.float32), 40, 0)) == 40


@pytest.mark.parametrize(("count", "top"), [(1, 0), (3, 1), (5, 1), (13, 3), (40, 8), (60, 12)])
def test_mix_rounds_to_what_is_asked(count: int, top: int) -> None:
    # those below the sixty strongest by far are so many that chance hardly ever takes one of the sixty
    maxima = np.concatenate([np.arange(100_000), np.arange(200_000, 200_060)]).astype(np.float32)
    strong = [int((draw("mix", maxima, count, seed) >= 100_000).sum()) for seed in range(5)]
    assert sorted(strong)[2] == top
    assert len(draw("mix", maxima, count, 0)) == count


def test_an_unwanted_window_of_a_mix_is_replaced_in_its_own_part_and_counted_once() -> None:
    maxima = np.arange(108, dtype=np.float32)

    def unwanted(some: np.ndarray) -> np.ndarray:
        return some >= 104

    drawn, passed = sample("mix", maxima, quantile_labels(maxima, 10), 40, unwanted, generator())
    assert passed == 4
    assert set(range(96, 104)) <= set(drawn.tolist())
    assert len(set(drawn.tolist())) == len(drawn) == 40
    assert drawn.max() < 104


def test_importance_draws_one_after_the_other_in_proportion_to_the_maximum() -> None:
    maxima = np.array([0.5, 1.0, 2.5, 4.0], dtype=np.float32)
    times = Counter(tuple(draw("importance", maxima, 2, seed).tolist()) for seed in range(8000))
    chances = {
        (one, two): float(maxima[one]) / 8 * float(maxima[two]) / (8 - float(maxima[one]))
        for one in range(4)
        for two in range(4)
        if one != two
    }
    assert set(times) == set(chances)
    expected = [8000 * chance for chance in chances.values()]
    assert chisquare([times[pair] for pair in chances], expected).pvalue > 0.001


def test_importance_passes_over_an_unwanted_window_as_if_it_were_not_there() -> None:
    maxima = np.array([1.0, 2.0, 50.0, 3.0], dtype=np.float32)
    labels = quantile_labels(maxima, 10)
    first: Counter[int] = Counter()
    for seed in range(3000):
        drawn, _ = sample("importance", maxima, labels, 1, lambda some: some == 2, generator(seed))
        first.update(drawn.tolist())
    assert chisquare([first[0], first[1], first[3]], [500, 1000, 1500]).pvalue > 0.001


@given(st.lists(st.integers(1, 4), max_size=40), st.integers(0, 50))
@settings(deadline=None, max_examples=60)
def test_a_stratified_order_goes_round_the_strata(labels: list[int], seed: int) -> None:
    order, rounds = stratified(np.array(labels, dtype=np.int64), generator(seed))
    assert sorted(order.tolist()) == list(range(len(labels)))
    assert rounds.tolist() == sorted(rounds.tolist())
    seen: Counter[int] = Counter()
    for place, turn in zip(order.tolist(), rounds.tolist(), strict=True):
        assert seen[labels[place]] == turn
        seen[labels[place]] += 1


def test_a_stratified_order_is_uniform_within_a_stratum() -> None:
    labels = np.repeat([1, 2], 8)
    first: Counter[int] = Counter()
    for seed in range(2000):
        order, rounds = stratified(labels, generator(seed))
        first.update(order[rounds == 0].tolist())
    assert chisquare([first[place] for place in range(16)]).pvalue > 0.001


def test_an_unwanted_item_is_replaced_by_the_next_of_its_order() -> None:
    orders = [np.array([1, 2, 3, 4]), np.array([11, 12]), np.array([21, 22, 23])]
    asked: list[list[int]] = []

    def unwanted(items: np.ndarray) -> np.ndarray:
        asked.append(items.tolist())
        return np.isin(items, [1, 2, 11, 12, 23])

    drawn, passed = draw_from(orders, 6, unwanted)
    assert drawn.tolist() == [3, 4, 21, 22]
    assert passed == 4
    assert asked == [[1, 2, 11, 12, 21, 22], [3, 4]]


def test_drawing_from_nothing_gives_nothing() -> None:
    assert draw_from([], 5, nothing)[0].tolist() == []
    assert draw_from([np.array([], dtype=np.int64)], 5, nothing)[0].tolist() == []
