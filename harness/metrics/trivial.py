"""What answers that know nothing score on the same examples: activating always, never, or as often as it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.metrics.classification import METRICS, Votes, figure

__all__ = ["best_trivial", "trivial"]


def trivial(activating: float, silent: float) -> dict[str, dict[str, float | None]]:
    """Every figure of `METRICS` and the Brier score of three trivial judges, None where it is not defined.

    `activating` and `silent` are how many examples there are of each, or shares of a corpus. *always* and *never* say
    so with certainty. *prior* calls each example activating with the share of activating ones as its chance, and
    gives that share as its probability: its figures are those of the expected counts.

    Raises:
        ValueError: a number is negative, or both are 0.
    """
    whole = activating + silent
    if min(activating, silent) < 0 or not whole > 0:
        raise ValueError(f"examples are counted from 0, and there must be some, not {activating} and {silent}")
    share = activating / whole
    return {
        "always": _judge(activating, silent, 1.0),
        "never": _judge(activating, silent, 0.0),
        "prior": _judge(activating, silent, share),
    }


def _judge(activating: float, silent: float, chance: float) -> dict[str, float | None]:
    """A judge that says yes with a chance, whatever it sees: two examples of each class, weighed by that chance."""
    truth, labels = np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
    votes = Votes(truth, labels, np.full(4, chance), 0, np.ones(4, dtype=bool))
    said = np.array([chance, 1 - chance])
    positive = np.concatenate([activating * said, [0.0, 0.0]])
    negative = np.concatenate([[0.0, 0.0], silent * said])
    figures = {name: float(figure(name, votes, positive, negative)) for name in METRICS}
    brier = (activating * (1 - chance) ** 2 + silent * chance**2) / (activating + silent)
    return {name: None if np.isnan(value) else value for name, value in {**figures, "brier": brier}.items()}


def best_trivial(of: Mapping[str, Mapping[str, float | None]], metric: str) -> float | None:
    """The highest figure of the trivial judges, None where none has it."""
    found = [value for judge in of.values() if (value := judge.get(metric)) is not None]
    return max(found, default=None)
