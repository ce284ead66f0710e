"""Strengths: heavy-tailed, the strongest tenth core, a share of the weakest tenth stray, the rest even in rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.rules import Text, parse

WORDS = [f"{chr(97 + number % 26)}{chr(97 + number // 26)}" for number in range(400)]


def graded(**changed: Any) -> dict[str, Any]:
    """Fires on the first 100 words, on 20 of them as core, which fires at half of its places; strays to the others."""
    held = 0.25
    firings = held / (1 - 0.1 * 0.3)
    return {
        "kind": "graded",
        "seed": "here",
        "shape": 1.5,
        "rule": {"kind": "words", "words": WORDS[:100]},
        "core": {"kind": "words", "words": WORDS[:80]},
        "core_share": 0.1 * firings / 0.2,
        "stray": {"kind": "words", "words": WORDS[300:]},
        "stray_rate": (firings - held) / 0.25,
        "stray_share": 0.3,
        **changed,
    }


@pytest.fixture(scope="module")
def text() -> Text:
    generator = np.random.default_rng(0)
    return Text([" " + WORDS[index] for index in generator.integers(0, 400, 60_000)])


def test_ranks_of_all_firings_are_even(text: Text) -> None:
    rule = parse(graded())
    strengths = rule.strengths(text)
    ranks = rule.ranks(strengths[strengths > 0])
    assert stats.kstest(ranks, "uniform").pvalue > 0.01


def test_the_strongest_tenth_is_core_and_the_weakest_holds_its_share_of_strays(text: Text) -> None:
    strengths = parse(graded()).strengths(text)
    fired = np.flatnonzero(strengths)
    order = fired[np.argsort(strengths[fired])]
    tenth = len(order) // 10
    index = np.array([WORDS.index(piece.strip()) for piece in text.pieces])
    assert (index[order[-tenth:]] < 80).mean() > 0.97
    assert (index[order[:tenth]] >= 300).mean() == pytest.approx(0.3, abs=0.04)
    # where the rule is no core it never reaches the top, where it strays never leaves the bottom
    ranks = parse(graded()).ranks(strengths)
    assert ranks[(index >= 80) & (index < 100)].max() < 0.9
    assert ranks[index >= 300].max() < 0.1


@pytest.mark.parametrize("shape", [1.2, 1.5, 2.0])
def test_the_tail_is_heavier_than_an_exponential(text: Text, shape: float) -> None:
    strengths = parse(graded(core=None, stray=None, shape=shape)).strengths(text)
    fired = strengths[strengths > 0].astype(np.float64)
    assert stats.kstest(fired, stats.weibull_min(1 / shape).cdf).pvalue > 0.01
    exponential = -np.log(0.01)
    assert np.quantile(fired, 0.99) / fired.mean() > exponential


def test_strength_is_the_same_for_the_same_words_before_and_another_with_another_seed(text: Text) -> None:
    pieces = list(text.pieces[:500])
    alone = parse(graded()).strengths(pieces)
    again = parse(graded()).strengths(["", "before", "", *pieces])
    assert np.array_equal(alone, again[3:])
    other = parse(graded(seed="there")).strengths(pieces)
    both = (alone > 0) & (other > 0)
    assert abs(np.corrcoef(stats.rankdata(alone[both]), stats.rankdata(other[both]))[0, 1]) < 0.3


def test_a_smaller_tenth_leaves_fewer_core_firings_at_the_top(text: Text) -> None:
    rule = parse(graded(tenth=0.01, core_share=0.0125, stray=None))
    strengths = rule.strengths(text)
    ranks = rule.ranks(strengths[strengths > 0])
    assert stats.kstest(ranks, "uniform").pvalue > 0.01


def test_a_rule_without_a_grade_is_one_where_it_fires() -> None:
    rule = parse({"kind": "words", "words": ["red"]})
    assert rule.strengths([" red", " blue"]).tolist() == [1.0, 0.0]
    assert rule.strengths([" red"]).dtype == np.float32
    assert rule.ranks(np.ones(2, np.float32)).tolist() == [1.0, 1.0]
    assert rule.strengths([]).shape == (0,)
