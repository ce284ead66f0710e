"""Strengths from 0 to 10, exact at the edges."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.questions.strength import levels

POSITIVE = st.floats(width=32, min_value=2**-20, max_value=2**20)


@given(POSITIVE, st.integers(0, 10), st.integers(-3, 3))
def test_both_roundings_are_those_of_exact_fractions(maximum: float, tenth: int, steps: int) -> None:
    # as near to a whole tenth as float32 goes: on it, and up to three steps to either side
    activation = np.float32(maximum * tenth / 10)
    for _ in range(abs(steps)):
        activation = np.nextafter(activation, np.float32(math.copysign(np.inf, steps)))
    exact = max(Fraction(0), 10 * Fraction(float(activation)) / Fraction(maximum))
    assert levels(activation, maximum, "floor") == min(10, math.floor(exact))
    assert levels(activation, maximum, "ceil") == min(10, math.ceil(exact))


@given(st.floats(width=16, min_value=2**-14, max_value=60000), st.floats(width=16, min_value=2**-14, max_value=60000))
def test_values_of_a_float16_store_are_exact_too(activation: float, maximum: float) -> None:
    exact = 10 * Fraction(activation) / Fraction(maximum)
    assert levels(activation, maximum) == min(10, math.floor(exact))
    assert levels(activation, maximum, "ceil") == min(10, math.ceil(exact))


@pytest.mark.parametrize("maximum", [1e-6, 0.1, 0.7, 1.0, 3.0, 65504.0])
def test_the_maximum_itself_is_ten_and_silence_is_none(maximum: float) -> None:
    for rounding in ("floor", "ceil"):
        assert levels(np.array([0.0, maximum]), maximum, rounding).tolist() == [0, 10]


def test_a_faint_activation_is_none_rounded_down_and_one_rounded_up() -> None:
    faint = np.array([1e-6, 0.0999], np.float32)
    assert levels(faint, 1.0, "floor").tolist() == [0, 0]
    assert levels(faint, 1.0, "ceil").tolist() == [1, 1]


def test_three_tenths_of_a_maximum_of_ten_is_three_either_way() -> None:
    assert levels(np.float32(3), 10.0, "floor") == levels(np.float32(3), 10.0, "ceil") == 3


def test_more_than_the_maximum_is_ten_and_less_than_nothing_none() -> None:
    assert levels([12.0, -1.0, -0.01], 10.0, "floor").tolist() == [10, 0, 0]
    assert levels([12.0, -1.0, -0.01], 10.0, "ceil").tolist() == [10, 0, 0]


def test_a_latent_that_never_fires_has_no_strengths() -> None:
    assert levels(np.zeros((2, 3), np.float32), 0.0).tolist() == [[0, 0, 0], [0, 0, 0]]
