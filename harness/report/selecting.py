"""Which latents of a large run have a page in its report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.analysis.score_table import score_table, scorers_with
from harness.errors import UserError
from harness.report.reading import Reading

__all__ = ["SELECTED", "selected"]

# of each coder: first in the seeded order, a random sample; highest; lowest; scorers most apart
FIRST, HIGHEST, LOWEST, APART = 400, 200, 200, 200
SELECTED = (
    f"Of each coder the first {FIRST} in the seeded order, which are a random sample, the {HIGHEST} that score highest "
    f"and the {LOWEST} that score lowest by the primary figure, and the {APART} on which scorers are most apart have a "
    "page and stand in the table of latents."
)


def selected(reading: Reading) -> dict[str, set[int]]:
    """The latents of each coder that have a page."""
    run = reading.whole
    found = {coder: set(indices[:FIRST]) for coder, indices in run.latents.items()}
    figures = {scorer.name: _figures(reading, scorer.name, scorer.metric) for scorer in reading.scorers}
    own = figures.get(run.ranking["scorer"], {})
    for coder in found:
        first = {index: value for (name, index), value in own.items() if name == coder}
        ordered = sorted(first, key=lambda index: (first[index], index))
        found[coder].update(ordered[:LOWEST], ordered[-HIGHEST:])
        gaps = _gaps(reading, coder, figures)
        found[coder].update(sorted(gaps, key=lambda index: (-gaps[index], index))[:APART])
    return found


def _figures(reading: Reading, scorer: str, metric: str) -> dict[tuple[str, int], float]:
    """A scorer's figure of each latent, a mean over real arms."""
    try:
        if scorer not in scorers_with(reading.scores, metric, reading.rung):
            return {}
    except UserError:  # nothing has this figure on the rung
        return {}
    table = score_table(reading.scores, metric, scorer, reading.rung)
    real = [at for at, arm in enumerate(table.arms) if arm.control is None]
    values = table.value[:, real]
    has = ~np.isnan(values)
    means = np.where(has, values, 0.0).sum(axis=1) / np.maximum(has.sum(axis=1), 1)
    rows = np.flatnonzero(has.any(axis=1))
    names, indices = table.coders[rows].tolist(), table.indices[rows].tolist()
    return dict(zip(zip(names, indices, strict=True), means[rows].tolist(), strict=True))


def _gaps(reading: Reading, coder: str, figures: Mapping[str, Mapping[tuple[str, int], float]]) -> dict[int, float]:
    """How far scorers are apart at most on each latent, each from its chance to 1."""
    lowest: dict[int, float] = {}
    highest: dict[int, float] = {}
    for scorer in reading.scorers:
        for (name, index), value in figures[scorer.name].items():
            if name == coder:
                level = (value - scorer.chance) / (1 - scorer.chance)
                lowest[index] = min(level, lowest.get(index, level))
                highest[index] = max(level, highest.get(index, level))
    return {index: high - lowest[index] for index, high in highest.items() if high > lowest[index]}
