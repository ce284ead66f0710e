"""Runs compared: their arms, every difference with its outcome, how far scorers agree, and what it all took."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis.correlations import correlations
from harness.analysis.costs import costs_of
from harness.analysis.differences import differences
from harness.analysis.load import Run, ScoreRow, load
from harness.analysis.matching import labels, match, same_scorer
from harness.analysis.reliabilities import reliabilities
from harness.analysis.score_table import scorers_with
from harness.analysis.tables import summary
from harness.errors import RunError, UserError

__all__ = ["RunComparison", "compare"]


@dataclass(frozen=True, slots=True, eq=False)
class RunComparison:
    """One or several runs by one scorer and metric on the headline's rung, as DataFrames.

    `arms` is the summary of `harness.analysis.tables`, `differences` that of `harness.analysis.differences`.
    `correlations` (`harness.analysis.correlations`) and `reliabilities` (`harness.analysis.reliabilities`) are of all
    scorers, each by the figure that it is shown by; `costs` (`harness.analysis.costs`) has a column `run` before its
    own. Reliabilities of a large run (`Run.large`) are of `Run.sample`. `runs` are the runs' names in these tables,
    `notes` what was left out of them and why.
    """

    runs: tuple[str, ...]
    scorer: str
    metric: str
    margin: float
    rung: str
    arms: pd.DataFrame
    differences: pd.DataFrame
    correlations: pd.DataFrame
    reliabilities: pd.DataFrame
    costs: pd.DataFrame
    notes: tuple[str, ...] = ()


def compare(*runs: str | Path | Run, metric: str | None = None, scorer: str | None = None) -> RunComparison:
    """Compare the arms of one or several runs, given as directories or loaded, on the latents that both of a pair have.

    Without `scorer` and `metric` they are the first run's primary ones. Arms of several runs are matched on latents
    and examples; scorers other than the compared one that are not the same in all runs are left out of the
    correlations, and told in `notes`.

    Raises:
        RunError: a directory is no run or is given twice, nothing is scored, or runs do not match.
        UserError: no run is given, or scorer or metric is unknown, or their choice is not clear.
    """
    if not runs:
        raise UserError("give at least one run directory to compare")
    with ExitStack() as stack:
        loaded = [run if isinstance(run, Run) else _opened(run, stack) for run in runs]
        return _compare(loaded, metric, scorer)


def _opened(path: str | Path, stack: ExitStack) -> Run:
    run = load(path)
    stack.callback(run.close)
    return run


def _compare(runs: Sequence[Run], metric: str | None, scorer: str | None) -> RunComparison:
    names, first = labels(runs), runs[0]
    wanted = set().union(*(run.shown_figures() for run in runs), {metric} if metric is not None else ())
    frames = [run.score_frame(wanted).assign(run=name) for run, name in zip(runs, names, strict=True)]
    for run, frame in zip(runs, frames, strict=True):
        if frame.empty:
            raise RunError(f"{run.path}: nothing is scored yet")
    metric, scorer = _chosen(runs, frames[0], metric, scorer)
    for other in runs[1:]:
        match(first, other, scorer)
    scores = pd.concat(frames, ignore_index=True)
    figures, notes = _figures(runs, names, scorer, metric)
    margin, seed, rung = first.ranking["margin"], first.seed, first.rung
    rows = {_same(row): row for run in runs for row in run.sample.score_rows()}
    return RunComparison(
        tuple(names),
        scorer,
        metric,
        margin,
        rung,
        summary(scores, metric, scorer, rung, seed=seed),
        differences(scores, metric, scorer, margin=margin, rung=rung, seed=seed),
        correlations(scores if len(runs) == 1 else _with_text(runs, names, scores), figures, rung=rung),
        reliabilities(rows.values(), figures, rung=rung, seed=seed),
        pd.concat([_costs(run, name) for run, name in zip(runs, names, strict=True)], ignore_index=True),
        tuple(notes),
    )


def _chosen(runs: Sequence[Run], scores: pd.DataFrame, metric: str | None, scorer: str | None) -> tuple[str, str]:
    """The metric and scorer: as given, else the primary ones, which all runs must share."""
    primary = runs[0].ranking
    if metric is None and scorer is None:
        for run in runs[1:]:
            theirs = run.ranking
            if (theirs["scorer"], theirs["metric"]) != (primary["scorer"], primary["metric"]):
                raise UserError(
                    f"{runs[0].path} is ranked by {primary['metric']} of {primary['scorer']}, {run.path} by "
                    f"{theirs['metric']} of {theirs['scorer']}: say with --scorer and --metric which to take"
                )
        return primary["metric"], primary["scorer"]
    if scorer is not None:
        if scorer not in runs[0].scorers:
            raise UserError(f'{runs[0].path} has no scorer "{scorer}"; it has {", ".join(runs[0].scorers)}')
        return metric or runs[0].metric_of(scorer), scorer
    assert metric is not None
    having = scorers_with(scores, metric, runs[0].rung)
    if primary["scorer"] in having:
        return metric, primary["scorer"]
    if len(having) > 1:
        raise UserError(f'several scorers have the metric "{metric}": say with --scorer which: {", ".join(having)}')
    return metric, having[0]


def _figures(runs: Sequence[Run], names: Sequence[str], scorer: str, metric: str) -> tuple[dict[str, str], list[str]]:
    """The figure of each scorer that is the same wherever it occurs, and what is said of the others."""
    figures: dict[str, str] = {}
    notes: list[str] = []
    for name in dict.fromkeys(each for run in runs for each in run.scorers):
        having = [at for at, run in enumerate(runs) if name in run.scorers]
        unlike = [names[at] for at in having[1:] if not same_scorer(runs[having[0]], runs[at], name)]
        if unlike:
            whose = f"{names[having[0]]} and {', '.join(unlike)}"
            notes.append(f'scorer "{name}" is not the same in {whose}: it is in no correlation')
        else:
            figures[name] = metric if name == scorer else runs[having[0]].metric_of(name)
    return figures, notes


def _same(row: ScoreRow) -> tuple[Any, ...]:
    """What the scores of one explanation of one arm in several runs have in common."""
    arm = row.arm
    return arm.coder, arm.explainer, arm.control, row.latent, row.scoring.digest, row.unit and row.unit.key


def _with_text(runs: Sequence[Run], names: Sequence[str], scores: pd.DataFrame) -> pd.DataFrame:
    """Scores with a column of the words that were judged, of whichever run."""
    keys = ["run", "coder", "latent", "explainer", "control"]
    words = pd.concat([run.explanations().assign(run=name) for run, name in zip(runs, names, strict=True)])
    by_key = {tuple(map(_cell, row[:-1])): row[-1] for row in words[[*keys, "text"]].itertuples(index=False, name=None)}
    found = [by_key.get(tuple(map(_cell, row))) for row in scores[keys].itertuples(index=False, name=None)]
    return scores.assign(text=found)


def _cell(value: Any) -> Any:
    """A cell that can be looked up: missing ones are None."""
    return None if pd.isna(value) else value


def _costs(run: Run, name: str) -> pd.DataFrame:
    models = {arm["name"]: arm.get("model") for arm in run.record["task"]["explainer"]}
    table = costs_of(run, models)
    table.insert(0, "run", name)
    return table
