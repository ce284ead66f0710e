"""What of a run goes into a report's figures of dots and curves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.report.evidence import Arm
from harness.report.numbers import finite, pair
from harness.report.plots import Dot, Plot, Scale, Series, sampled
from harness.report.reading import Reading
from harness.report.svg import score_ends
from harness.report.text import figure, metric_name, span
from harness.runs.arms import NO_EXPLANATION, arm_label
from harness.values import seed_of

__all__ = ["agreement_plots", "calibration_plots", "firing_plots"]


def agreement_plots(reading: Reading, frame: pd.DataFrame, correlations: pd.DataFrame) -> Iterator[Plot]:
    """Each pair of scorers, a dot for each latent and explainer that both have a figure of.

    `frame` and `correlations` are of `harness.analysis.correlations`, with these figures of the scorers.
    """
    from harness.analysis.correlations import shared_figures

    figures = {scorer.name: scorer.metric for scorer in reading.scorers}
    found: defaultdict[tuple[str, str], defaultdict[str, list[Dot]]] = defaultdict(lambda: defaultdict(list))
    for row in shared_figures(frame, figures, rung=reading.rung).to_dict("records"):
        label = arm_label(row["explainer"], None) if row["explainer"] else arm_label(None, NO_EXPLANATION)
        dot = Dot(row["value_a"], row["value_b"], f"{row['coder']} {row['latent']}")
        found[row["a"], row["b"]][label].append(dot)
    told = {(row["a"], row["b"]): row for row in correlations.to_dict("records")}
    for (a, b), arms in found.items():
        dots = [dot for own in arms.values() for dot in own]
        across = _score_scale(reading, a, [dot.x for dot in dots])
        up = _score_scale(reading, b, [dot.y for dot in dots])
        row = told[a, b]
        note = f"Spearman {figure(finite(row['spearman']))} {span(pair(row, 'spearman_low', 'spearman_high'))}".strip()
        plot = Plot(f"{b} against {a}", across, up, _series(reading.arms, arms), note=f"{note}.")
        yield sampled(plot, seed_of(reading.run.seed, "dots", a, b))


def firing_plots(reading: Reading) -> Iterator[Plot]:
    """Each scorer's figures of real arms against how often the latents fire, a dot for each latent and explainer."""
    from harness.analysis.rates import figures_by_rate

    found: defaultdict[str, defaultdict[str, list[Dot]]] = defaultdict(lambda: defaultdict(list))
    for (explainer, control, scorer, _), latents in figures_by_rate(reading.run).items():
        if control in (None, NO_EXPLANATION):
            dots = (Dot(rate, value, f"{coder} {index}") for coder, index, rate, value in latents if rate > 0)
            found[scorer][arm_label(explainer, control)] += dots
    for scorer, arms in found.items():
        dots = [dot for own in arms.values() for dot in own]
        if not dots:
            continue
        rates = [dot.x for dot in dots]
        low, high = 10 ** (math.log10(min(rates)) - 0.05), 10 ** (math.log10(max(rates)) + 0.05)
        across = Scale("share of windows that it fires in", low, high, logarithmic=True)
        plot = Plot(scorer, across, _score_scale(reading, scorer, [dot.y for dot in dots]), _series(reading.arms, arms))
        yield sampled(plot, seed_of(reading.run.seed, "dots", scorer))


def calibration_plots(every: Sequence[Arm], rows: Sequence[Mapping[Any, Any]]) -> Iterator[Plot]:
    """Each scorer's probabilities against what they come to; `rows` are of `harness.analysis.calibrations`.

    `every` are the run's arms in their order.
    """
    found: defaultdict[str, defaultdict[str, list[Dot]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        ends = pair(row, "activating_low", "activating_high")
        dot = Dot(row["probability"], row["activating"], f"{row['verdicts']:,} verdicts", ends)
        found[row["scorer"]][row["arm"]].append(dot)
    for scorer, arms in found.items():
        across, up = Scale("mean probability said", 0, 1), Scale("share activating", 0, 1)
        yield Plot(scorer, across, up, _series(every, arms), joined=True)


def _score_scale(reading: Reading, name: str, values: Iterable[float]) -> Scale:
    """The scale of a scorer's figure: as wide as its values need, with chance on it."""
    scorer = next(one for one in reading.scorers if one.name == name)
    inside = [scorer.chance, *values]
    lowest, highest = score_ends(inside, scorer.chance)
    low, high = math.floor(10 * min(inside) - 0.2) / 10, math.ceil(10 * max(inside) + 0.2) / 10
    ends = max(low, lowest), min(max(high, low + 0.1), highest)
    return Scale(f"{name}, {metric_name(scorer.metric)}", *ends, scorer.chance)


def _series(every: Sequence[Arm], arms: Mapping[str, Sequence[Dot]]) -> tuple[Series, ...]:
    """Dots by arm, each arm with its number among the run's real arms."""
    real = [arm.label for arm in every if arm.control is None]
    names = [*real, *(label for label in arms if label not in real)]
    return tuple(Series(label, names.index(label), tuple(arms[label])) for label in names if arms.get(label))
