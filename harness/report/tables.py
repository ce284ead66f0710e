"""A report's tables and curves over all latents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import metrics
from harness.analysis.rows import kept, where
from harness.report.data import Comparison, Curve, CurvePoint, Lift, PopulationLine, ScorerLine, SummaryRow
from harness.report.evidence import Arm
from harness.report.numbers import finite, is_number, pair
from harness.report.reading import Reading, arm_of
from harness.scorers.verdicts import Verdicts

if TYPE_CHECKING:
    from harness.analysis.columns import Columns

__all__ = ["all_scores", "comparisons", "curves", "populations", "summary_rows"]


def summary_rows(reading: Reading) -> Iterator[SummaryRow]:
    """Arms by scorer and rung, the headline's first, with intervals and lifts."""
    from harness.analysis.nulls import with_nulls
    from harness.analysis.tables import summary

    for rung in sorted(reading.task.examples.scored.rungs, key=lambda name: name != reading.rung):
        for scorer in _scored(reading, rung):
            table = summary(reading.scores, scorer.metric, scorer.name, rung, seed=reading.task.seed)
            if rung == reading.rung:
                table = with_nulls(reading.run, table, scorer.metric, reading.rows)
            for row in table.to_dict("records"):
                yield _summary_row(row, scorer, rung)


def populations(reading: Reading) -> Iterator[PopulationLine]:
    """How often the chosen latents fire, and those of each population beside them; nothing where there is none."""
    from harness.analysis.nulls import quartiles

    controls = dict.fromkeys(place["control"] for place in reading.run.populations.values())
    for control in (None, *controls):
        rates = reading.run.window_rates(control)
        if controls and (middle := quartiles(rates)) is not None:
            yield PopulationLine(control, len(rates), middle)


def comparisons(reading: Reading) -> Iterator[Comparison]:
    """Pairs of arms by scorer."""
    from harness.analysis.differences import differences

    margin = reading.task.ranking.margin
    for scorer in _scored(reading, reading.rung):
        table = differences(
            reading.scores, scorer.metric, scorer.name, margin=margin, rung=reading.rung, seed=reading.task.seed
        )
        for row in table.to_dict("records"):
            yield _comparison(row, scorer, margin)


def all_scores(reading: Reading) -> dict[tuple[Arm, str], NDArray[np.float64]]:
    """The figures on the headline's rung of all latents, by arm and scorer's name, for histograms."""
    from harness.analysis.score_table import score_table

    found = {}
    for scorer in _scored(reading, reading.rung):
        table = score_table(reading.scores, scorer.metric, scorer.name, reading.rung)
        for at, arm in enumerate(table.arms):
            found[Arm(arm.explainer, arm.control), scorer.name] = kept(table.value[:, at])
    return found


def curves(reading: Reading) -> Iterator[Curve]:
    """How often verdicts are right by quantile, for each scorer and arm that has any; selected records have none."""
    if reading.whole.large:
        yield from _large_curves(reading)
        return
    found: defaultdict[tuple[Arm, str], list[Verdicts]] = defaultdict(list)
    for row in reading.rows:
        if row.scoring.rung == "random" and (verdicts := row.verdicts) is not None:
            found[arm_of(row.arm), row.scoring.scorer].append(verdicts)
    for scorer in reading.scorers:
        for arm in reading.arms:
            points = tuple(_points(found.get((arm, scorer.name), ()), reading.task.seed))
            # texts that were written have no quantile
            if any(point.quantile is not None for point in points):
                yield Curve(arm, scorer.name, points)


def _large_curves(reading: Reading) -> Iterator[Curve]:
    """The same of a large run, out of its columns."""
    from harness.analysis.frames import blocks

    run = reading.whole
    found: defaultdict[tuple[Arm, str], list[NDArray[np.int64]]] = defaultdict(list)
    for block in blocks(run, run.columns):
        for at, scoring in enumerate(run.scoring):
            own = block.number[(block.scoring == at) & (block.number >= 0)]
            if scoring.rung == "random" and len(own):
                found[arm_of(run.arms[block.arm]), scoring.scorer].append(own)
    for scorer in reading.scorers:
        for arm in reading.arms:
            if parts := found.get((arm, scorer.name)):
                points = tuple(_counted(run.columns, np.concatenate(parts), run.seed))
                if any(point.quantile is not None for point in points):
                    yield Curve(arm, scorer.name, points)


def _counted(columns: Columns, own: NDArray[np.int64], seed: int) -> Iterator[CurvePoint]:
    given, right = (columns[f"score/{name}"][own].astype(np.int64) for name in ("given", "right"))
    for quantile in range(given.shape[1] - 1):
        has = given[:, quantile] > 0
        if has.any():
            shares = right[has, quantile] / given[has, quantile]
            yield _point(quantile, shares, int(given[:, quantile].sum()), seed)


def _scored(reading: Reading, rung: str) -> list[ScorerLine]:
    """The scorers with any row on a rung."""
    there = set(where(reading.scores, rung=rung)["scorer"])
    return [scorer for scorer in reading.scorers if scorer.name in there]


def _summary_row(row: Mapping[Any, Any], scorer: ScorerLine, rung: str) -> SummaryRow:
    lifts = []
    for control in [key[5:-4] for key in row if str(key).startswith("lift_") and str(key).endswith("_low")]:
        difference = finite(row[f"lift_{control}"])
        if difference is not None:
            lifts.append(Lift(control, difference, pair(row, f"lift_{control}_low", f"lift_{control}_high")))
    return SummaryRow(
        Arm(_text(row["explainer"]), _text(row["control"])),
        scorer.name,
        scorer.metric,
        finite(row["mean_at_chance"]),
        pair(row, "mean_at_chance_low", "mean_at_chance_high"),
        int(row["latents"]),
        int(row["latents"]) - int(row["ok"]) + int(row["undefined"]),
        finite(row["mean"]),
        finite(row["worst"]),
        rung=rung,
        lifts=tuple(lifts),
        permuted=_permuted(row),
    )


def _permuted(row: Mapping[Any, Any]) -> tuple[float, float, float] | None:
    if "permuted" not in row:
        return None
    middle, ends = finite(row["permuted"]), pair(row, "permuted_low", "permuted_high")
    return None if middle is None or ends is None else (middle, *ends)


def _comparison(row: Mapping[Any, Any], scorer: ScorerLine, margin: float) -> Comparison:
    return Comparison(
        Arm(_text(row["explainer_a"]), _text(row["control_a"])),
        Arm(_text(row["explainer_b"]), _text(row["control_b"])),
        scorer.name,
        scorer.metric,
        row["outcome"],
        finite(row["difference"]),
        pair(row, "low", "high"),
        finite(row["p_adjusted"]),
        int(row["n"]),
        margin,
        finite(row["detectable"]),
        int(row["needed"]) if is_number(row["needed"]) else None,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _points(verdicts: Sequence[Verdicts], seed: int) -> Iterator[CurvePoint]:
    """Shares of right verdicts, latent by latent, at each quantile and on silent windows."""
    for quantile in sorted({int(q) for v in verdicts for q in v.quantile}):
        chosen = [(v, (v.quantile == quantile) & (v.label >= 0)) for v in verdicts]
        right = [(v.label == v.truth)[which] for v, which in chosen if which.any()]
        if right:
            yield _point(quantile, np.array([found.mean() for found in right]), sum(map(len, right)), seed)


def _point(quantile: int, shares: NDArray[np.float64], verdicts: int, seed: int) -> CurvePoint:
    interval = metrics.mean_interval(shares, seed=seed)
    ends = None if interval is None else (interval.low, interval.high)
    return CurvePoint(quantile or None, float(shares.mean()), verdicts, ends)
