"""Every table of one or several runs by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis.arms import arms, layers
from harness.analysis.calibrations import calibrations
from harness.analysis.choices import choices
from harness.analysis.compare import compare
from harness.analysis.disagreements import disagreements
from harness.analysis.interventions import interventions, pairs, regressions
from harness.analysis.load import Run, load
from harness.analysis.matching import labels
from harness.analysis.quantiles import quantiles_of
from harness.analysis.rates import firing
from harness.analysis.rows import where
from harness.analysis.tables import latent_table
from harness.errors import UserError

__all__ = ["TABLES", "Table", "analyse"]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: what a row of it is, in words, and how it is made of one run, a scorer and a metric.

    `together` names the attribute of `harness.compare` where several runs make one table and not one each.
    """

    words: str
    of: Callable[[Run, str | None, str | None], pd.DataFrame]
    together: str | None = None


def _kept(table: pd.DataFrame, scorer: str | None) -> pd.DataFrame:
    return table if scorer is None else where(table, scorer=scorer)


def _compared(name: str) -> Callable[[Run, str | None, str | None], pd.DataFrame]:
    return lambda run, scorer, metric: getattr(compare(run, scorer=scorer, metric=metric), name)


def _latents(run: Run, scorer: str | None, metric: str | None) -> pd.DataFrame:
    if scorer is not None:
        metric = metric or run.metric_of(scorer)
    scores = _kept(run.scores(), scorer)
    return latent_table(run.explanations(), scores, metric or run.ranking["metric"], run.rung)


TABLES: Mapping[str, Table] = {
    "arms": Table("an arm, scorer and rung: means, medians, lifts, failures, lengths, dollars", arms),
    "differences": Table("a pair of arms: difference, interval, p, outcome", _compared("differences"), "differences"),
    "latents": Table("a latent and explainer: explanation and scores", _latents),
    "quantiles": Table(
        "an arm, scorer, rung and quantile of activation (figure 3)",
        lambda run, scorer, _: _kept(quantiles_of(run), scorer),
    ),
    "layers": Table("a coder, arm and scorer (figure A5)", layers),
    "interventions": Table(
        "a coder, KL, scorer of interventions, arm and status (figures 4 and A6)",
        lambda run, scorer, _: interventions(run, scorer),
    ),
    "regressions": Table(
        "a scorer of interventions against another scorer (figures 4 and A7)",
        lambda run, scorer, _: regressions(run, scorer),
    ),
    "pairs": Table("a pair of continuations, without and with an intervention", lambda run, *_: pairs(run)),
    "firing": Table("an arm, scorer and band of the firing rate", firing),
    "calibration": Table(
        "an arm, scorer, rung and tenth of the probability",
        lambda run, scorer, _: _kept(calibrations(run.sample.score_rows()), scorer),
    ),
    "disagreements": Table(
        "a latent and explainer that two scorers rank most differently, with evidence (A.4.7)",
        lambda run, *_: disagreements(run),
    ),
    "choices": Table("an explainer that chose among candidates: select and scored figures, optimism", choices),
    "correlations": Table("a pair of scorers (tables A1, A2)", _compared("correlations"), "correlations"),
    "reliabilities": Table("a scorer: split-half reliability", _compared("reliabilities"), "reliabilities"),
    "costs": Table("an explainer, or scorer on a rung: what one latent took (table 1)", _compared("costs"), "costs"),
    "explanations": Table("an explanation", lambda run, *_: run.explanations()),
    "scores": Table("a score", lambda run, scorer, _: _kept(run.scores(), scorer)),
    "figures": Table("a score with every figure", lambda run, scorer, _: _kept(run.figures(), scorer)),
    "verdicts": Table("a verdict", lambda run, scorer, _: _kept(run.verdicts(), scorer)),
}


def analyse(
    *runs: str | Path | Run, table: str = "arms", scorer: str | None = None, metric: str | None = None
) -> pd.DataFrame:
    """One table of one or several runs, given as directories or loaded; see `TABLES` for the names.

    With several runs a first column `run` names the run, and a column for each setting in which the tasks differ, such
    as `examples.shown.sampler`, stands behind it: so runs by sampler, by window or by subject make one table. Tables of
    pairs are those of `harness.compare`, which matches the runs. `scorer` keeps one scorer's rows, `metric` another
    figure than each scorer's own, where a table has that choice.

    Raises:
        RunError: a directory is no run or is given twice, or runs do not match.
        UserError: there is no such table, scorer or metric, or no run is given.
    """
    if table not in TABLES:
        raise UserError(f'there is no table "{table}"; there are: {", ".join(TABLES)}')
    if not runs:
        raise UserError("give at least one run directory")
    chosen = TABLES[table]
    with ExitStack() as stack:
        loaded = [run if isinstance(run, Run) else _opened(run, stack) for run in runs]
        for run in loaded:
            if scorer is not None and scorer not in run.scorers:
                raise UserError(f'{run.path} has no scorer "{scorer}"; it has {", ".join(run.scorers)}')
        if len(loaded) == 1:
            return chosen.of(loaded[0], scorer, metric)
        if chosen.together is not None:
            return getattr(compare(*loaded, scorer=scorer, metric=metric), chosen.together)
        names, told = labels(loaded), _differing([run.record["task"] for run in loaded])
        made = [chosen.of(run, scorer, metric) for run in loaded]
    return pd.concat([_beside(*parts) for parts in zip(made, names, told, strict=True)], ignore_index=True)


def _opened(path: str | Path, stack: ExitStack) -> Run:
    run = load(path)
    stack.callback(run.close)
    return run


def _beside(table: pd.DataFrame, name: str, told: Mapping[str, Any]) -> pd.DataFrame:
    table = table.drop(columns="run", errors="ignore")
    for at, (column, value) in enumerate({"run": name, **told}.items()):
        table.insert(at, column, [value] * len(table))
    return table


def _differing(tasks: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each task the settings, by their dotted keys, in which not all are alike; names aside."""
    flat = [dict(_settings(task)) for task in tasks]
    keys = [
        key
        for key in dict.fromkeys(key for one in flat for key in one)
        if key != "name" and any(one.get(key) != flat[0].get(key) for one in flat[1:])
    ]
    return [{key: one.get(key) for key in keys} for one in flat]


def _settings(value: Any, key: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        inner = [(str(item.get("name", at)), item) for at, item in enumerate(value)]
    else:
        # a list is a cell of the table, not several
        return [(key, ", ".join(map(str, value)) if isinstance(value, list) else value)]
    return [found for name, item in inner for found in _settings(item, f"{key}.{name}" if key else str(name))]
