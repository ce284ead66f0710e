"""Scores of interventions by KL, layer and population, and against other scores (paper, figures 4, A6 and A7)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd

from harness.analysis.arms import layer_of
from harness.analysis.score import Score
from harness.analysis.score_table import Arm
from harness.errors import UserError
from harness.metrics import correlation, mean_interval, regression, unpaired_interval
from harness.metrics.intervals import Interval, ends
from harness.subject.calibrate_search import Status
from harness.subject.intervened import Intervened
from harness.task import POPULATIONS

if TYPE_CHECKING:
    from harness.analysis.load import Run

__all__ = ["REACHED", "changes", "interventions", "pairs", "regressions"]

# how near to its target, as a share of that, a KL counts as reached: the calibration's own tolerance
REACHED = 0.1
STATUSES: tuple[str, ...] = get_args(Status)


def interventions(run: Run, scorer: str | None = None) -> pd.DataFrame:
    """One row a coder, scorer of interventions, arm and status: scores by KL and layer, and what they stand above.

    `status` is `reached` for all latents whose KL came within 10 % of the target, whatever the search said of its way;
    rows of each of the calibration's own statuses follow where not all latents are `ok`. Columns: `coder`, `hookpoint`,
    `layer`, `scorer`, `metric`, `target` (nats), `explainer`, `control`, `arm`, `status`, `latents`, `failed` (scores,
    counted at chance) and `failed_verdicts`, `kl` (mean reached), `strength` (median), `mean` with `mean_low` and
    `mean_high`. Arms that have an explainer of their own have `lift_<control>`, with ends: over `shuffled` and controls
    on the same latents the mean of the paired differences, over populations of random latents the difference of means,
    unpaired. Either way only latents count that reach the target on both sides: for a population those whose match
    does, too. Intervals are of 95 % over latents, missing below 20.

    Latents with too few prompts are in no row.

    Raises:
        UserError: no score of the run is by an intervention.
    """
    return pd.DataFrame([row for found in _known(run, scorer) for row in _rows(run, found)])


def regressions(run: Run, scorer: str | None = None) -> pd.DataFrame:
    """One row a scorer of interventions and explainer, and another scorer and explainer: over one coder's latents.

    The score by intervention is regressed on the other (paper: on fuzzing), of the same latent, whatever the words that
    either judged; real arms alone, and latents that reach the target. Columns: `coder`, `hookpoint`, `layer`, `scorer`,
    `metric`, `target`, `explainer`, `other`, `other_metric`, `other_explainer`, `n`, `slope` with `slope_low` and
    `slope_high` (`harness.metrics.regression`), `intercept`, `pearson` and `spearman` with ends.

    Raises:
        UserError: no score of the run is by an intervention.
    """
    others = _others(run, {found.scorer for found in _known(run)})
    rows = [row for found in _known(run, scorer) for row in _regressed(found, others)]
    return pd.DataFrame(rows, columns=None if rows else ["scorer", "other"])


def pairs(run: Run) -> pd.DataFrame:
    """One row a pair of continuations to score with: of which latent at which target, and what the subject wrote.

    Columns: `coder`, `latent`, `target`, `kl`, `strength` and `status` (as `interventions`), `context` and `start` of
    the prompt in the store, `quantile`, `prompt`, `clean`, `steered`. Rows of one latent and target are in the order of
    a score's verdicts.
    """
    rows = [row for (coder, latent), found in changes(run).items() for row in _pairs(coder, latent, found)]
    if not rows:
        raise UserError(f"{run.path}: no latent was changed")
    return pd.DataFrame(rows)


def changes(run: Run) -> dict[tuple[str, int], tuple[Intervened, ...]]:
    """What changing each latent came to, at each target: by coder and latent; empty where no latent was changed."""
    return {
        (coder, unit.latent): tuple(map(Intervened.from_json, unit.result.get("targets", ())))
        for coder, arm in run.record.get("interventions", {}).items()
        for unit in run.journal.units(arm)
    }


def _pairs(coder: str, latent: int, found: tuple[Intervened, ...]) -> Iterator[dict[str, Any]]:
    for one in found:
        told = one.calibration
        for pair in one.score:
            yield {
                "coder": coder,
                "latent": latent,
                "target": told.target,
                "kl": told.kl,
                "strength": told.strength,
                "status": told.status,
                "context": None if pair.place is None else pair.place.context,
                "start": None if pair.place is None else pair.place.start,
                "quantile": pair.quantile,
                "prompt": pair.prompt,
                "clean": pair.clean,
                "steered": pair.steered,
            }


@dataclass(frozen=True, slots=True)
class _Found:
    """One scorer's scores of one coder and its populations, by arm and latent; where they were looked at."""

    coder: str
    hookpoint: str | None
    scorer: str
    metric: str
    chance: float
    scores: Mapping[tuple[str | None, str | None], Mapping[int, Score]]
    strengths: Mapping[tuple[str | None, int], Mapping[str, Any]]
    """What `harness.scorers.intervention.figures` tells of the strength, by population (None: the coder) and latent."""

    @property
    def target(self) -> float:
        return next(iter(self.strengths.values()))["target"]

    def reached(self, population: str | None, latent: int) -> bool:
        told = self.strengths.get((population, latent))
        return told is not None and told["kl"] is not None and abs(told["kl"] / told["target"] - 1) <= REACHED

    def values(self, arm: tuple[str | None, str | None]) -> dict[int, float]:
        """The figure of each latent, failures at chance; latents whose interventions are not known are left out."""
        population = _population(arm[1])
        filled = {latent: one.filled(self.metric, self.chance) for latent, one in self.scores.get(arm, {}).items()}
        return {
            latent: value
            for latent, value in filled.items()
            if (population, latent) in self.strengths and not math.isnan(value)
        }


def _known(run: Run, scorer: str | None = None) -> list[_Found]:
    found = list(_of_scorers(run, scorer))
    if not found:
        which = "no score" if scorer is None else f'no score by "{scorer}"'
        raise UserError(f"{run.path}: {which} is by an intervention; see the scorer kind intervention")
    return found


def _of_scorers(run: Run, scorer: str | None) -> Iterator[_Found]:
    populations = {name: (place["of"], place["control"]) for name, place in run.populations.items()}
    groups: dict[tuple[str, str], list[tuple[str | None, Score]]] = {}
    hookpoints: dict[str, str | None] = {}
    for record in run.score_records():
        coder, population = populations.get(record["coder"], (record["coder"], None))
        hookpoints[coder] = record["hookpoint"]
        if scorer in (None, record["scorer"]) and record["rung"] == run.rung:
            score = Score(**{field: record[field] for field in Score._fields})
            groups.setdefault((coder, record["scorer"]), []).append((population, score))
    for (coder, name), scores in groups.items():
        strengths = {
            (population, score.latent): score.metrics
            for population, score in scores
            if score.metrics and {"target", "kl", "strength", "status"} <= score.metrics.keys()
        }
        if not strengths:
            continue
        by_arm: dict[tuple[str | None, str | None], dict[int, Score]] = {}
        for _, score in scores:
            by_arm.setdefault((score.explainer, score.control), {})[score.latent] = score
        metric, chance = run.metric_of(name), run.chance_of(name)
        own = next(arm for arm in run.scoring if arm.scorer == name)
        if metric != own.metric:
            metric, chance = own.metric, own.chance if own.chance is not None else 0.0
        yield _Found(coder, hookpoints[coder], name, metric, chance, by_arm, strengths)


def _rows(run: Run, found: _Found) -> Iterator[dict[str, Any]]:
    for arm in sorted(found.scores, key=lambda one: (str(one[0] or "~"), one[1] is not None, str(one[1]))):
        population, values = _population(arm[1]), found.values(arm)
        status = {latent: found.strengths[population, latent]["status"] for latent in values}
        reached = {latent: value for latent, value in values.items() if found.reached(population, latent)}
        parts = [("reached", reached)]
        if set(status.values()) - {"ok"}:
            parts += [
                (name, {latent: value for latent, value in values.items() if status[latent] == name})
                for name in STATUSES
                if name in status.values()
            ]
        for name, part in parts:
            row = _row(run, found, arm, name, part)
            if name == "reached" and arm[0] is not None and arm[1] is None:
                row |= _lifts(run, found, arm[0], reached)
            yield row


def _row(
    run: Run, found: _Found, arm: tuple[str | None, str | None], status: str, part: Mapping[int, float]
) -> dict[str, Any]:
    population = _population(arm[1])
    strengths = [found.strengths[population, latent] for latent in part]
    kls = [told["kl"] for told in strengths if told["kl"] is not None]
    scores = [found.scores[arm][latent] for latent in part]
    mean = list(part.values())
    return {
        **_where(found),
        "explainer": arm[0],
        "control": arm[1],
        "arm": Arm(run.name, *arm).label,
        "status": status,
        "latents": len(part),
        "failed": sum(score.status != "ok" for score in scores),
        "failed_verdicts": sum(score.failed or 0 for score in scores),
        "kl": float(np.mean(kls)) if kls else math.nan,
        "strength": float(np.median([told["strength"] for told in strengths])) if strengths else math.nan,
        **_with_ends("mean", float(np.mean(mean)) if mean else math.nan, mean_interval(mean, seed=run.seed)),
    }


def _lifts(run: Run, found: _Found, explainer: str, own: Mapping[int, float]) -> dict[str, float]:
    """By how much an explainer's scores stand above each control's, where both reach the target."""
    lifts: dict[str, float] = {}
    for arm in found.scores:
        control = arm[1]
        if control is None or arm[0] not in (None, explainer):
            continue
        population = _population(control)
        theirs = {latent: value for latent, value in found.values(arm).items() if found.reached(population, latent)}
        if population is None:
            shared = sorted(own.keys() & theirs.keys())
            differences = [own[latent] - theirs[latent] for latent in shared]
            lift = float(np.mean(differences)) if shared else math.nan
            lifts |= _with_ends(f"lift_{control}", lift, mean_interval(differences, seed=run.seed))
            continue
        pairs = [(a, b) for a, b in _matches(run, found.coder, population) if a in own and b in theirs]
        a, b = [own[one] for one, _ in pairs], [theirs[other] for _, other in pairs]
        lift = float(np.mean(a) - np.mean(b)) if pairs else math.nan
        lifts |= _with_ends(f"lift_{control}", lift, unpaired_interval(a, b, seed=run.seed))
    return lifts


def _matches(run: Run, coder: str, population: str) -> list[tuple[int, int]]:
    """Which latent of a coder each of a population stands beside."""
    for name, place in run.populations.items():
        if (place["of"], place["control"]) == (coder, population):
            return list(zip(place["matched"], run.latents[name], strict=True))
    return []


_Other = tuple[str, str, str | None]


def _others(run: Run, known: set[str]) -> dict[tuple[str, _Other], dict[int, float]]:
    """Figures of real arms by the other scorers: by coder and (scorer, metric, explainer), of each latent."""
    found: dict[tuple[str, _Other], dict[int, float]] = {}
    for record in run.score_records():
        name = record["scorer"]
        if name in known or record["rung"] != run.rung or record["status"] != "ok":
            continue
        if record["control"] not in (None, "latent"):
            continue
        metric = run.metric_of(name)
        value = record["metrics"].get(metric)
        if value is not None:
            key = record["coder"], (name, metric, record["explainer"])
            found.setdefault(key, {})[record["latent"]] = float(value)
    return found


def _regressed(found: _Found, others: Mapping[tuple[str, _Other], Mapping[int, float]]) -> Iterator[dict[str, Any]]:
    for arm in found.scores:
        if arm[0] is None or arm[1] is not None:
            continue
        own = {latent: value for latent, value in found.values(arm).items() if found.reached(None, latent)}
        for (coder, (name, metric, explainer)), theirs in others.items():
            shared = sorted(own.keys() & theirs.keys())
            if coder != found.coder or not shared:
                continue
            x, y = [theirs[latent] for latent in shared], [own[latent] for latent in shared]
            line = regression(x, y)
            row = {
                **_where(found),
                "explainer": arm[0],
                "other": name,
                "other_metric": metric,
                "other_explainer": explainer,
                "n": line.n,
                **_with_ends("slope", math.nan if line.slope is None else line.slope, line.interval),
                "intercept": math.nan if line.intercept is None else line.intercept,
            }
            for kind in ("pearson", "spearman"):
                told = correlation(x, y, kind=kind)
                row |= _with_ends(kind, math.nan if told.value is None else told.value, told.interval)
            yield row


def _where(found: _Found) -> dict[str, Any]:
    return {
        "coder": found.coder,
        "hookpoint": found.hookpoint,
        "layer": layer_of(found.hookpoint),
        "scorer": found.scorer,
        "metric": found.metric,
        "target": found.target,
    }


def _population(control: str | None) -> str | None:
    return control if control in POPULATIONS else None


def _with_ends(name: str, value: float, interval: Interval | None) -> dict[str, float]:
    low, high = ends(interval)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
