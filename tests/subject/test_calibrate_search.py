"""The search on made-up curves: what is found, in how many rounds, and what is said where nothing can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.subject.calibrate_search import Calibration, search


def run(
    curve: Callable[[float], float], targets: Sequence[float] = (1.0,), start: float = 1.0, rounds: int = 16
) -> tuple[list[Calibration], int]:
    """The verdicts on one latent's curve, and how many strengths were tried."""
    tried = 0

    def measure(wanted: Sequence[tuple[int, float]]) -> list[float]:
        nonlocal tried
        tried += len(wanted)
        return [curve(strength) for _, strength in wanted]

    return search(measure, {0: start}, targets, max_rounds=rounds), tried


@given(
    exponent=st.floats(0.6, 3),
    scale=st.floats(1e-4, 1e3),
    start=st.floats(1e-2, 1e2),
    target=st.sampled_from([0.1, 0.33, 1.0, 3.0]),
)
def test_powers_of_strength_are_met_within_a_tenth(exponent: float, scale: float, start: float, target: float) -> None:
    [found], tried = run(lambda strength: (strength / scale) ** exponent, [target], start)
    assert found.status == "ok"
    assert abs(found.kl / target - 1) <= 0.1
    assert found.strength == pytest.approx(scale * found.kl ** (1 / exponent))
    assert tried <= 12


def test_a_smooth_curve_takes_few_tries() -> None:
    found, tried = run(lambda s: 4 * s**2 / (1 + s**2), (0.1, 0.33, 1.0, 3.0))
    assert [one.status for one in found] == ["ok"] * 4
    assert tried <= 10


def test_a_flat_curve_is_saturated_below_its_target() -> None:
    [low, high], tried = run(lambda s: 2 * s**2 / (1 + s**2), (1.0, 3.0))
    assert low.status == "ok"
    assert high.status == "saturated"
    assert high.kl == pytest.approx(2, rel=0.05)
    assert tried <= 10


def test_a_step_is_bracketed_and_the_rounds_run_out() -> None:
    [found], tried = run(lambda s: 0.2 * s if s < 2 else 5 + s)
    assert found.status == "max_rounds"
    assert found.kl == pytest.approx(0.4, rel=0.1)
    assert tried <= 16


def test_the_first_upward_crossing_of_a_curve_that_falls_again_is_taken() -> None:
    curve = lambda s: 2 * math.exp(-(math.log(s / 4) ** 2)) + 1e-3 * s  # noqa: E731 - short for what follows
    [found], _ = run(curve, [1.0], start=10.0)
    assert found.status == "nonmonotone"
    assert abs(found.kl - 1) <= 0.1
    assert found.strength < 4


def test_a_peak_below_the_target_is_nonmonotone_at_its_peak() -> None:
    [found], _ = run(lambda s: 0.8 * math.exp(-(math.log(s / 4) ** 2)), [3.0])
    assert found.status == "nonmonotone"
    assert found.kl == pytest.approx(0.8, rel=0.05)
    assert found.strength == pytest.approx(4, rel=0.3)


def test_strengths_without_numbers_bound_the_search() -> None:
    curve = lambda s: s**2 if s < 100 else math.nan  # noqa: E731 - short for what follows
    [found], _ = run(curve, [1.0], start=1e6)
    assert found.status == "ok"
    [found], _ = run(lambda s: 1e-3 * s if s < 100 else math.nan, [1.0])
    assert found.status == "nonfinite"
    assert found.kl == pytest.approx(0.1, rel=0.1)
    [found], _ = run(lambda _: math.nan, [1.0])
    assert found.status == "nonfinite"


def test_latents_are_measured_together_and_each_as_if_alone() -> None:
    rounds: list[int] = []

    def measure(wanted: Sequence[tuple[int, float]]) -> list[float]:
        rounds.append(len(wanted))
        return [(strength * (latent + 1)) ** 2 for latent, strength in wanted]

    together = search(measure, dict.fromkeys(range(5), 1.0), (0.1, 1.0))
    assert rounds[0] == 5
    alone = search(measure, {3: 1.0}, (0.1, 1.0))
    assert [one for one in together if one.latent == 3] == alone
    assert [(one.latent, one.target) for one in together] == [(n, t) for n in range(5) for t in (0.1, 1.0)]
