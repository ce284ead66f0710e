"""How far scorers agree: the correlations of their figures over latents and arms (paper, tables A1 and A2)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pandas as pd

from harness.metrics import CorrelationKind, correlation, ends
from harness.runs.arms import NO_EXPLANATION

__all__ = ["FEW", "SHARED", "correlations", "shared_figures"]

# below this many latents a correlation is flagged: an interval from 0.4 to 0.8 is then nothing unusual
FEW = 30

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

    A frame of scores is described in `harness.analysis.tables`; `figures` names each scorer's figure, in the order in
    which they are to stand. Rows are of real arms, with `controls` of all. Failed scores and undefined figures are in
    no correlation: `n` says how many rows are. Where the frame has a column `text`, rows of several runs with the
    same explanation of the same arm are one row, of which the first run's figure stands. A scorer that judges no
    explanation has one figure a latent, which stands beside each of its arms.

    Columns `a, b, metric_a, metric_b`, `n` (rows) of `latents`, `few` (fewer than 30 latents), `spearman` and
    `pearson` with `_low` and `_high`, 95 % over latents (`harness.metrics.correlation`), missing below 20 latents.
    """
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
    """One scorer's figures by row; those of a latent alone where it judges no explanation."""

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


def _figures(
    scores: pd.DataFrame, figures: Mapping[str, str], rung: str, *, controls: bool
) -> defaultdict[str, _Figures]:
    found: defaultdict[str, _Figures] = defaultdict(_Figures)
    whose = "text" if "text" in scores.columns else "run"
    for row in scores.to_dict("records"):
        scorer = row["scorer"]
        asked = row["rung"] == rung and row["status"] == "ok" and scorer in figures
        value = row["metrics"].get(figures[scorer]) if asked else None
        if value is None or not math.isfinite(value):
            continue
        latent = (row["coder"], int(row["latent"]))
        control = row["control"] if isinstance(row["control"], str) else None
        if control == NO_EXPLANATION:
            found[scorer].by_latent.setdefault(latent, float(value))
        elif control is None or controls:
            # the words of an explanation that was withheld are missing, and missing is not equal to missing
            told = row[whose] if isinstance(row[whose], str) else None
            explainer = row["explainer"] if isinstance(row["explainer"], str) else None
            found[scorer].by_row.setdefault((*latent, explainer, control, told), float(value))
    return found


def _latent(key: _Key) -> _Latent:
    return key[0], key[1]


def _row(a: str, b: str, figures: Mapping[str, str], first: _Figures, second: _Figures) -> dict[str, Any]:
    one, other = first.beside(second), second.beside(first)
    # sorted, so that the order of a frame's rows changes no digit
    shared = sorted(one.keys() & other.keys(), key=repr)
    number = {latent: at for at, latent in enumerate(dict.fromkeys(map(_latent, shared)))}
    x, y = [one[key] for key in shared], [other[key] for key in shared]
    of = [number[_latent(key)] for key in shared]
    row: dict[str, Any] = {
        "a": a,
        "b": b,
        "metric_a": figures[a],
        "metric_b": figures[b],
        "n": len(shared),
        "latents": len(number),
        "few": len(number) < FEW,
    }
    kinds: tuple[CorrelationKind, ...] = ("spearman", "pearson")
    for kind in kinds:
        told = correlation(x, y, of, kind=kind)
        row[kind] = math.nan if told.value is None else told.value
        row[f"{kind}_low"], row[f"{kind}_high"] = ends(told.interval)
    return row
