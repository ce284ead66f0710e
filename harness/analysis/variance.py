"""Where the variance of scores comes from: tables of a latent's score, an arm's mean and the difference of arms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.load import Run, load
from harness.analysis.rows import where
from harness.analysis.score_table import score_table
from harness.errors import RunError, UserError
from harness.metrics.components import Crossed, Effect, combined
from harness.metrics.intervals import Interval, ends
from harness.metrics.stability import rank_stability
from harness.runs.variance import Design, read_design
from harness.values import seed_of

__all__ = ["BESIDE", "SOURCES", "TABLES", "Variance", "split", "variance"]

Floats = NDArray[np.float64]
# the axes behind latents and arms, and what is drawn along each
SOURCES = ("corpora", "examples", "explainer", "scorer")
# a ranking's stability is a mean over at most so many pairs of replicates
PAIRS = 40
TOP = 10
# rows that are no source
BESIDE = ("total", "seen", "common")
TABLES = ("score", "mean", "difference", "components", "stability")


@dataclass(frozen=True, slots=True, eq=False)
class Variance:
    """The variance of one scorer's figure by source, as DataFrames.

    `latents` were scored in every replicate, `left_out` were not. Sources are `latents`, `corpora`, `examples` (the
    draw of them), `explainer` (writing again) and `scorer` (judging again); what was drawn once is none, and what it
    would add is missing. Variances are estimated without bias, so one may be below 0; `share` is of the total with such
    at 0. Intervals are at 95 %: see `docs/variance.md`.

    - `score`: one row an arm and source, the variance of a latent's score measured once;
    - `mean`: the same of an arm's mean over as many latents as here, with one draw of everything else; of its total
      `seen` is the part that an interval over latents tells of, and `common` what a draw does to all latents alike;
    - `difference`: the same of the difference of two arms' means on the same latents and examples;
    - `components`: every effect, of latents or common to them, of which the rows above are sums;
    - `stability`: one row an arm and stage from which on all is done again: Kendall's tau of the ranking of latents,
      the overlap of the top, at most a quarter of the latents, and what it is by chance.
    """

    scorer: str
    metric: str
    design: Design
    latents: int
    left_out: int
    score: pd.DataFrame
    mean: pd.DataFrame
    difference: pd.DataFrame
    components: pd.DataFrame
    stability: pd.DataFrame


def variance(directory: str | Path, scorer: str | None = None, *, top: int = TOP) -> Variance:
    """Read the replicates that `harness variance` made in a directory and split the variance of a scorer's figure.

    Without `scorer` it is the primary one. Failures count at chance, as in means; latents that could not be asked about
    in some draw, or are not done yet, are left out.

    Raises:
        RunError: there are no such replicates, some are not begun, or fewer than 2 latents are done in all.
        UserError: there is no such scorer.
    """
    path = Path(directory)
    design = read_design(path)
    run = load(path)
    try:
        cells, seed = _cells(run, path, design), run.seed
        chosen = scorer or run.ranking["scorer"]
        if chosen not in design.scorers:
            raise UserError(f'{path} has no scorer "{chosen}"; it has {", ".join(design.scorers)}')
        metric = _metric(cells[0][0], chosen)
        scores, reached = _scores(cells, design, chosen, metric)
    finally:
        run.close()
    n = len(scores)
    if n < 2:
        raise RunError(f"{path}: {n} of {reached} latents have a score in every draw, and 2 are needed; run it again")
    return split(
        scores, design.explainers, scorer=chosen, metric=metric, design=design, left_out=reached - n, top=top, seed=seed
    )


def split(
    scores: Floats,
    arms: Sequence[str],
    *,
    scorer: str = "",
    metric: str = "",
    design: Design | None = None,
    left_out: int = 0,
    top: int = TOP,
    seed: int = 0,
) -> Variance:
    """Split scores `[latents, arms, corpora, draws, explainer samples, scorer samples]`, none of them missing.

    Raises:
        ValueError: a score is missing, there are fewer than 2 latents, or the arms are not as many as there are names.
    """
    if scores.ndim != 6 or scores.shape[1] != len(arms):
        raise ValueError(f"scores {scores.shape} of {len(arms)} arms are not [latents, arms, ...]")
    by_arm = {name: Crossed(scores[:, at], seed=seed) for at, name in enumerate(arms)}
    by_pair = {
        (arms[a], arms[b]): Crossed(scores[:, a] - scores[:, b], seed=seed)
        for a, b in combinations(range(len(arms)), 2)
    }
    n = len(scores)
    return Variance(
        scorer,
        metric,
        design or Design(*scores.shape[3:]),
        n,
        left_out,
        _frame([{"arm": arm, **row} for arm, found in by_arm.items() for row in _split(found, 1)]),
        _frame([{"arm": arm, **row} for arm, found in by_arm.items() for row in _split(found, n)]),
        _frame([{"a": a, "b": b, **row} for (a, b), found in by_pair.items() for row in _split(found, n)]),
        _frame([{"arm": arm, **row} for arm, found in by_arm.items() for row in _effects(found)]),
        _frame(
            [
                row
                for at, arm in enumerate(arms)
                for row in _stability(scores[:, at], arm, min(top, max(1, n // 4)), seed)
            ]
        ),
    )


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows)


# reading


_Cell = tuple[Run, int, int]


def _cells(run: Run, path: Path, design: Design) -> list[_Cell]:
    """Each replicate's run with the numbers of its corpus and draw."""
    tasks = run.journal.tasks()
    base = min(record.record["task"]["examples"].get("draw", 0) for record in tasks)
    found: dict[tuple[int, int], Run] = {}
    for record in tasks:
        task = record.record["task"]
        corpus = _corpus(task, design)
        draw = task["examples"].get("draw", 0) - base
        if corpus is not None and draw < design.draws and _complete(task, design):
            one = Run(path, run.journal)
            one.task = record
            found[corpus, draw] = one
    wanted = list(product(range(1 + len(design.corpora)), range(design.draws)))
    if missing := [cell for cell in wanted if cell not in found]:
        raise RunError(f"{path}: {len(missing)} of {len(wanted)} draws are not begun; run it again to go on")
    return [(found[cell], *cell) for cell in wanted]


def _corpus(task: Mapping[str, Any], design: Design) -> int | None:
    subject = task.get("subject")
    if subject is None or not design.corpora:
        return 0
    further = [str(Path(path).resolve()) for path in design.corpora]
    path = subject["corpus"]["path"]
    return 1 + further.index(path) if path in further else 0


def _complete(task: Mapping[str, Any], design: Design) -> bool:
    """Whether a task has as many samples of everything as the design."""
    return all(
        design.name(name, sample) in {item["name"] for item in task[kind]}
        for kind, names, count in (
            ("explainer", design.explainers, design.explainer_samples),
            ("scorer", design.scorers, design.scorer_samples),
        )
        for name in names
        for sample in range(count)
    )


def _metric(run: Run, scorer: str) -> str:
    own = next(arm.metric for arm in run.scoring if arm.scorer == scorer)
    return run.ranking["metric"] if scorer == run.ranking["scorer"] else own


def _scores(cells: Sequence[_Cell], design: Design, scorer: str, metric: str) -> tuple[Floats, int]:
    """Scores of the latents that have one throughout, `[latents, arms, ...]`, and how many latents were reached."""
    values: dict[tuple[str, int], Floats] = {}
    samples = design.explainer_samples, design.scorer_samples
    shape = len(design.explainers), 1 + len(design.corpora), design.draws, *samples
    explainers = {
        design.name(name, e): (a, e)
        for a, name in enumerate(design.explainers)
        for e in range(design.explainer_samples)
    }
    for run, corpus, draw in cells:
        scores = where(run.scores(), rung=run.rung)
        for s in range(design.scorer_samples):
            own = where(scores, scorer=design.name(scorer, s))
            if own.empty:
                continue
            table = score_table(own, metric, design.name(scorer, s), run.rung)
            for column, arm in enumerate(table.arms):
                a, e = explainers[str(arm.explainer)]
                for row, latent in enumerate(table.latents):
                    place = values.setdefault(latent, np.full(shape, np.nan))
                    place[a, corpus, draw, e, s] = table.at_chance[row, column]
    kept = [value for _, value in sorted(values.items()) if np.isfinite(value).all()]
    return np.array(kept).reshape(len(kept), *shape), len(values)


# splitting


def _source(effect: Effect) -> str:
    """Of an effect, the last thing that was drawn: what is nested in it is drawn again with it."""
    return SOURCES[max(effect)] if effect else "latents"


def _split(found: Crossed, latents: int) -> Iterator[dict[str, Any]]:
    """The variance of a mean over so many latents by source, with its total."""
    rows: list[dict[str, Any]] = []
    parts: list[tuple[float, Interval | None]] = []
    own_all: dict[Effect, float] = {}
    for source in ("latents", *(SOURCES[axis] for axis in found.axes)):
        own = {effect: 1 / latents for effect in found.own if _source(effect) == source}
        common = {effect: 1.0 for effect in found.common if _source(effect) == source}
        own_all |= own
        told = [found.own_sum(own), *([found.common_sum(common)] if common else [])]
        parts.append(combined(told))
        rows.append({"source": source, **_estimate(*parts[-1])})
    whole = sum(max(0.0, row["variance"]) for row in rows)
    for row in rows:
        yield {**row, "share": max(0.0, row["variance"]) / whole if whole else math.nan}
    common_all = dict.fromkeys(found.common, 1.0)
    total = [found.own_sum(own_all), *([found.common_sum(common_all)] if common_all else [])]
    yield {"source": "total", **_estimate(*combined(total)), "share": 1.0 if whole else math.nan}
    if latents > 1:
        for source, part in zip(BESIDE[1:], total, strict=False):
            yield {"source": source, **_estimate(*part), "share": math.nan}


def _estimate(value: float, interval: Interval | None) -> dict[str, float]:
    low, high = ends(interval)
    return {"variance": value, "low": low, "high": high, "sd": math.sqrt(max(0.0, value))}


def _effects(found: Crossed) -> Iterator[dict[str, Any]]:
    for effect in found.own:
        names = ["latents", *(SOURCES[axis] for axis in sorted(effect))]
        yield {"effect": " x ".join(names), "source": _source(effect), **_estimate(*found.own_sum({effect: 1.0}))}
    for effect in found.common:
        name = " x ".join(SOURCES[axis] for axis in sorted(effect))
        yield {"effect": name, "source": _source(effect), **_estimate(*found.common_sum({effect: 1.0}))}


# ranking


def _stability(scores: Floats, arm: str, top: int, seed: int) -> Iterator[dict[str, Any]]:
    """How far rankings agree where all is done again from a stage on; `scores` is `[latents, ...]`."""
    shape = scores.shape[1:]
    for stage in (axis for axis in range(len(SOURCES)) if shape[axis] > 1):
        pairs = _pairs(shape, stage, seed_of(seed, "pairs", stage))
        told = rank_stability([(scores[:, *a], scores[:, *b]) for a, b in pairs], top)
        low, high = ends(told.interval)
        yield {
            "arm": arm,
            "again": f"{SOURCES[stage]} and on" if stage < len(SOURCES) - 1 else SOURCES[stage],
            "tau": math.nan if told.tau is None else told.tau,
            "low": low,
            "high": high,
            "top": told.top,
            "overlap": told.overlap,
            "overlap_by_chance": told.top / told.latents,
            "pairs": told.pairs,
        }


def _pairs(shape: Sequence[int], stage: int, seed: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs of replicates with all in common before a stage, and nothing from it on; some at random of very many."""
    every = list(product(*(range(size) for size in shape)))
    found = [
        (a, b)
        for a, b in combinations(every, 2)
        if a[:stage] == b[:stage] and all(shape[axis] == 1 or a[axis] != b[axis] for axis in range(stage, len(shape)))
    ]
    if len(found) <= PAIRS:
        return found
    chosen = np.random.default_rng(seed).choice(len(found), PAIRS, replace=False)
    return [found[at] for at in sorted(chosen.tolist())]
