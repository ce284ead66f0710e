"""What explaining and scoring took for one latent: calls, tokens and dollars (paper, table 1), as measured in runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.columns import USAGE
from harness.runs.arms import NO_EXPLANATION
from harness.values import Usage

if TYPE_CHECKING:
    from harness.analysis.load import Run

__all__ = ["costs", "costs_of"]

COLUMNS = (
    *("stage", "name", "model", "rung", "units", "examples"),
    *("calls", "prompt", "cached", "reply", "reasoning", "dollars"),
)


def costs(explanations: pd.DataFrame, scores: pd.DataFrame, models: Mapping[str, str | None]) -> pd.DataFrame:
    """One row an explainer, and a scorer on a rung: the mean over latents of what one explanation or score took.

    The frames are those of `Run.explanations` and `Run.scores`; `models` names explainers' models. Of scores those of
    real arms are taken, and of latents alone for scorers that judge no explanation; failed ones count, as they were
    paid for. What was asked again after an error is in the ledger (`Run.spending`), not here, and a reply remembered
    from another run counts with what it took there: the figures are those of asking everything once.

    Columns `stage` (explain, score), `name`, `model`, `rung`, `units` (explanations or scores averaged over),
    `examples` (judged), `calls` (requests answered), `prompt` tokens of which `cached`, `reply` tokens of which
    `reasoning`, and `dollars`, missing where a price is not known, as for models on one's own machine.
    """
    groups: defaultdict[tuple[str, str, str | None, str | None], list[Mapping[Any, Any]]] = defaultdict(list)
    for row in explanations.to_dict("records"):
        if _own(row):
            groups["explain", row["explainer"], models.get(row["explainer"]), None].append(row)
    for row in scores.to_dict("records"):
        if _own(row):
            groups["score", row["scorer"], row["scorer_model"], row["rung"]].append(row)
    return pd.DataFrame([_row(*key, group) for key, group in groups.items()], columns=list(COLUMNS))


def costs_of(run: Run, models: Mapping[str, str | None]) -> pd.DataFrame:
    """`costs` of a run; of a large one out of its columns."""
    if not run.large:
        return costs(run.explanations(), run.scores(), models)
    columns, rows = run.columns, []
    groups: defaultdict[tuple[str, str, str | None, str | None], list[NDArray[np.int64]]] = defaultdict(list)
    for at, arm in enumerate(run.arms):
        if arm.control not in (None, NO_EXPLANATION):
            continue
        numbers = columns.explanations(at).astype(np.int64)
        if arm.explainer is not None:
            groups["explain", arm.explainer, models.get(arm.explainer), None].append(numbers[numbers >= 0])
    for at, arm in enumerate(run.arms):
        if arm.control not in (None, NO_EXPLANATION):
            continue
        for other, scoring in enumerate(run.scoring):
            scores = columns.scores(at, other)
            if scores is not None:
                key = ("score", scoring.scorer, scoring.model, scoring.rung)
                groups[key].append(scores[scores >= 0].astype(np.int64))
    for key, parts in groups.items():
        own = np.concatenate(parts)
        kind = "explanation" if key[0] == "explain" else "score"
        used = {name: columns[f"{kind}/{name}"][own] for name in USAGE}
        asked = ~np.isnan(used["requests"])
        used = {name: values[asked] for name, values in used.items()}
        examples = math.nan
        if kind == "score" and asked.any():
            examples = float((columns["score/n_pos"][own[asked]] + columns["score/n_neg"][own[asked]]).mean())
        if asked.any():
            rows.append(_mean_row(key, int(asked.sum()), examples, used))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _mean_row(
    key: tuple[str, str, str | None, str | None], units: int, examples: float, used: Mapping[str, NDArray[np.float64]]
) -> dict[str, Any]:
    requests = used["requests"] > 0
    priced = not np.isnan(used["cost"][requests]).any() and requests.any()
    return {
        **dict(zip(("stage", "name", "model", "rung"), key, strict=True)),
        "units": units,
        "examples": examples,
        "calls": float(used["requests"].mean()),
        "prompt": float((used["input"] + used["cache_read"] + used["cache_write"]).mean()),
        "cached": float(used["cache_read"].mean()),
        "reply": float(used["output"].mean()),
        "reasoning": float(used["reasoning"].mean()),
        "dollars": float(np.nansum(used["cost"]) / units) if priced else math.nan,
    }


def _own(row: Mapping[Any, Any]) -> bool:
    """Whether a row is of a real arm or of a latent alone, and was asked at all."""
    control = row["control"]
    return (control == NO_EXPLANATION or not isinstance(control, str)) and isinstance(row["usage"], Mapping)


def _row(
    stage: str, name: str, model: str | None, rung: str | None, rows: Sequence[Mapping[Any, Any]]
) -> dict[str, Any]:
    used = [Usage(**row["usage"]) for row in rows]
    examples = [row["n_pos"] + row["n_neg"] for row in rows] if stage == "score" else [math.nan]
    priced = all(usage.cost is not None for usage in used if usage.requests)
    asked = any(usage.requests for usage in used)
    return {
        "stage": stage,
        "name": name,
        "model": model,
        "rung": rung,
        "units": len(used),
        "examples": fmean(examples),
        "calls": fmean(usage.requests for usage in used),
        "prompt": fmean(usage.input + usage.cache_read + usage.cache_write for usage in used),
        "cached": fmean(usage.cache_read for usage in used),
        "reply": fmean(usage.output for usage in used),
        "reasoning": fmean(usage.reasoning for usage in used),
        "dollars": fmean(usage.cost or 0.0 for usage in used) if priced and asked else math.nan,
    }
