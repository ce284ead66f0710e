"""Frames of the single things that scorers asked: a row a verdict, a row a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.scorers.verdicts import FAILURES

if TYPE_CHECKING:
    from harness.analysis.load import ScoreRow

__all__ = ["text_frame", "verdict_frame"]

_VERDICTS = (
    "coder", "latent", "explainer", "control", "scorer", "rung", "context", "start", "truth", "quantile", "label",
    "probability", "value", "failure",
)  # fmt: skip

_TEXTS = (
    "coder", "latent", "explainer", "control", "scorer", "activating", "text", "fired", "activation", "failure",
)  # fmt: skip


def verdict_frame(rows: Iterable[ScoreRow]) -> pd.DataFrame:
    """The verdicts of scores, see `harness.analysis.load.Run.verdicts`."""
    found = [(_whose(row), verdicts) for row in rows if (verdicts := row.verdicts) is not None]
    if not found:
        return pd.DataFrame(columns=list(_VERDICTS))
    lengths = [len(verdicts) for _, verdicts in found]
    whose = zip(*(names for names, _ in found), strict=True)
    columns: dict[str, NDArray[Any]] = {
        name: np.repeat(_objects(values), lengths) for name, values in zip(_VERDICTS[:6], whose, strict=True)
    }
    columns["latent"] = columns["latent"].astype(np.int64)
    told = {name: np.concatenate([getattr(verdicts, name) for _, verdicts in found]) for name in _VERDICTS[6:13]}
    failures = np.concatenate([verdicts.failure for _, verdicts in found])
    return pd.DataFrame({**columns, **told, "failure": _objects((None, *FAILURES))[failures]})


def _whose(row: ScoreRow) -> tuple[str, int, str | None, str | None, str, str | None]:
    """The columns that both frames begin with, and the rung."""
    return row.arm.coder, row.latent, row.arm.explainer, row.arm.control, row.scoring.scorer, row.scoring.rung


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def text_frame(rows: Iterable[ScoreRow]) -> pd.DataFrame:
    """The texts that were written for scores, see `harness.analysis.load.Run.texts`."""
    found = []
    for row in rows:
        written = [] if row.unit is None else row.unit.result.get("written", [])
        if not written or (verdicts := row.verdicts) is None:
            continue
        whose = _whose(row)[:5]
        columns = (verdicts.truth, verdicts.label, verdicts.value, verdicts.failure)
        for (text, _), (truth, label, value, failure) in zip(
            written, zip(*(column.tolist() for column in columns), strict=True), strict=True
        ):
            said = (None, None, None, FAILURES[failure - 1]) if failure else (text, label == 1, value, None)
            found.append(dict(zip(_TEXTS, (*whose, truth == 1, *said), strict=True)))
    return pd.DataFrame(found, columns=list(_TEXTS))
