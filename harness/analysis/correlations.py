"""How far scorers agree: the correlations of their figures over latents and arms (paper, tables A1 and A2)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.rows import figure_of, known, where
from harness.metrics import CorrelationKind, correlation, ends
from harness.runs.arms import NO_EXPLANATION

__all__ = ["FEW", "SHARED", "correlations", "shared_figures"]

# below this many latents a correlation is flagged: an interval from 0.4 to 0.8 is then nothing unusual
FEW = 30
# of more scores rows are matched as columns, in the order of their latents, and no longer one by one
MANY_ROWS = 50_000

_Key = tuple[Any, ...]
_Latent = tuple[str, int]
COLUMNS = (
    *("a", "b", "metric_a", "metric_b", "n", "latents", "few"),
    *("spearman", "spearman_low", "spearman_high", "pearson", "pearson_low", "pearson_high"),
)

SHARED = ("a", "b", "coder", "latent", "explainer", "control", "value_a", "value_b")


def correlations(
    scores: pd.DataFrame, figures: Mapping[str, str], *, rung: str = "random", controls: bool = False
) -> pd.DataFrame:
    """Every pair of scorers over rows of one latent and arm that both have a figure of: one row a pair.

    A frame of scores is described in `harness.analysis.score_table`; `figures` names each scorer's figure, in the order
    in which they are to stand. Rows are of real arms, with `controls` of all. Failed scores and undefined figures are
    in no correlation: `n` says how many rows are. Where the frame has a column `text`, rows of several runs with the
    same explanation of the same arm are one row, of which the first run's figure stands. A scorer that judges no
    explanation has one figure a latent, which stands beside each of its arms.

    Columns `a, b, metric_a, metric_b`, `n` (rows) of `latents`, `few` (fewer than 30 latents), `spearman` and
    `pearson` with `_low` and `_high`, 95 % over latents (`harness.metrics.correlation`), missing below 20 latents.
    """
    if len(scores) > MANY_ROWS and "text" not in scores.columns:
        tables = {name: _table(scores, name, metric, rung, controls=controls) for name, metric in figures.items()}
        rows = [_told(a, b, figures, *_shared(tables[a], tables[b])) for a, b in combinations(figures, 2)]
    else:
        found = _figures(scores, figures, rung, controls=controls)
        rows = [_row(a, b, figures, found[a], found[b]) for a, b in combinations(figures, 2)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def shared_figures(scores: pd.DataFrame, figures: Mapping[str, str], *, rung: str = "random") -> pd.DataFrame:
    """What `correlations` correlates: one row a pair of scorers, latent and arm, with both figures.

    Columns `a, b, coder, latent, explainer, control, value_a, value_b`; the last two of a latent alone where neither
    scorer judges an explanation, as are then `explainer` and `control` missing.
    """
    found = _figures(scores, figures, rung, controls=False)
    rows: list[tuple[Any, ...]] = []
    for a, b in combinations(figures, 2):
        one, other = found[a].beside(found[b]), found[b].beside(found[a])
        for key in sorted(one.keys() & other.keys(), key=repr):
            explainer, control = key[2:4] if len(key) > 2 else (None, None)
            rows.append((a, b, *_latent(key), explainer, control, one[key], other[key]))
    return pd.DataFrame(rows, columns=list(SHARED)).astype({"explainer": object, "control": object})


class _Figures:
    """A scorer's figures by rows; those of a latent alone where it judges no explanation."""

    def __init__(self) -> None:
        self.by_row: dict[_Key, float] = {}
        self.by_latent: dict[_Latent, float] = {}

    def beside(self, other: _Figures) -> dict[_Key, float]:
        """The figures by the rows of another scorer, where this one has no rows of its own."""
        if self.by_row or not self.by_latent:
            return self.by_row
        if not other.by_row:
            return dict(self.by_latent)
        return {key: self.by_latent[_latent(key)] for key in other.by_row if _latent(key) in self.by_latent}


def _table(scores: pd.DataFrame, scorer: str, metric: str, rung: str, *, controls: bool) -> pd.DataFrame:
    """A scorer's figures as columns: `coder, latent`, `arm` (-1 where no explanation was judged), `value`."""
    own = where(scores, rung=rung, status="ok", scorer=scorer)
    value, control = figure_of(own, metric), own["control"]
    blind = np.asarray(control == NO_EXPLANATION, dtype=bool)
    kept = np.isfinite(value) & (blind | np.asarray(control.isna()) | controls)
    run, explainer, arm = (known(scores, name) for name in ("run", "explainer", "control"))
    number = np.zeros(len(own), np.int64)
    for name, (_, values) in (("run", run), ("explainer", explainer), ("control", arm)):
        places = {word: at + 1 for at, word in enumerate(values)}
        codes, words = known(own, name)
        number = number * (len(values) + 1) + np.array([places[word] for word in words] + [0])[codes]
    coder = own["coder"].astype(str) if not isinstance(own["coder"].dtype, pd.CategoricalDtype) else own["coder"]
    table = pd.DataFrame({"coder": coder, "latent": own["latent"], "arm": np.where(blind, -1, number), "value": value})
    return table.iloc[np.flatnonzero(kept)].drop_duplicates(["coder", "latent", "arm"])


def _shared(
    first: pd.DataFrame, second: pd.DataFrame
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The figures of two scorers on the rows that both have, and the latent of each row."""
    # what judges no explanation stands beside each of the other's arms
    alone = [bool((table["arm"] == -1).all()) for table in (first, second)]
    on = ["coder", "latent"] if any(alone) else ["coder", "latent", "arm"]
    both = first.merge(second, on=on, suffixes=("_a", "_b")).sort_values(on, kind="stable")
    of = both.groupby(["coder", "latent"], sort=False, observed=True).ngroup()
    return both["value_a"].to_numpy(np.float64), both["value_b"].to_numpy(np.float64), of.to_numpy(np.int64)


def _figures(
    scores: pd.DataFrame, figures: Mapping[str, str], rung: str, *, controls: bool
) -> defaultdict[str, _Figures]:
    found: defaultdict[str, _Figures] = defaultdict(_Figures)
    whose = "text" if "text" in scores.columns else "run"
    asked = np.asarray((scores["rung"] == rung) & (scores["status"] == "ok"), dtype=bool)
    for scorer, metric in figures.items():
        own = scores.iloc[np.flatnonzero(asked & np.asarray(scores["scorer"] == scorer, dtype=bool))]
        values = figure_of(own, metric)
        has = np.isfinite(values)
        told = own.iloc[np.flatnonzero(has)]
        columns = (told[name].tolist() for name in ("coder", "latent", "explainer", "control", whose))
        for coder, index, explainer, control, words, value in zip(*columns, values[has].tolist(), strict=True):
            control = control if isinstance(control, str) else None
            if control == NO_EXPLANATION:
                found[scorer].by_latent.setdefault((coder, int(index)), value)
            elif control is None or controls:
                # the words of an explanation that was withheld are missing, and missing is not equal to missing
                key = (coder, int(index), explainer if isinstance(explainer, str) else None, control)
                found[scorer].by_row.setdefault((*key, words if isinstance(words, str) else None), value)
    return found


def _latent(key: _Key) -> _Latent:
    return key[0], key[1]


def _row(a: str, b: str, figures: Mapping[str, str], first: _Figures, second: _Figures) -> dict[str, Any]:
    one, other = first.beside(second), second.beside(first)
    # sorted, so that the order of a frame's rows changes no digit
    shared = sorted(one.keys() & other.keys(), key=repr)
    number = {latent: at for at, latent in enumerate(dict.fromkeys(map(_latent, shared)))}
    x, y = (np.array([side[key] for key in shared], np.float64) for side in (one, other))
    of = np.array([number[_latent(key)] for key in shared], np.int64)
    return _told(a, b, figures, x, y, of)


def _told(
    a: str, b: str, figures: Mapping[str, str], x: NDArray[np.float64], y: NDArray[np.float64], of: NDArray[np.int64]
) -> dict[str, Any]:
    """The row of a pair of scorers, of their figures and the latents that these are of."""
    latents = len(np.unique(of))
    row: dict[str, Any] = {
        "a": a,
        "b": b,
        "metric_a": figures[a],
        "metric_b": figures[b],
        "n": len(x),
        "latents": latents,
        "few": latents < FEW,
    }
    kinds: tuple[CorrelationKind, ...] = ("spearman", "pearson")
    for kind in kinds:
        told = correlation(x, y, of, kind=kind)
        row[kind] = math.nan if told.value is None else told.value
        row[f"{kind}_low"], row[f"{kind}_high"] = ends(told.interval)
    return row
