"""Frames of the single things that scorers asked: a row a verdict, a row a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from harness.scorers.verdicts import FAILURES

if TYPE_CHECKING:
    from harness.analysis.load import Run

__all__ = ["text_frame", "verdict_frame"]

_VERDICTS = (
    "coder", "latent", "explainer", "control", "scorer", "rung", "context", "start", "truth", "quantile", "label",
    "probability", "value", "failure",
)  # fmt: skip

_TEXTS = (
    "coder", "latent", "explainer", "control", "scorer", "activating", "text", "fired", "activation", "failure",
)  # fmt: skip


def verdict_frame(run: Run) -> pd.DataFrame:
    """See `harness.analysis.load.Run.verdicts`."""
    frames = []
    for row in run.score_rows():
        if (verdicts := row.verdicts) is None:
            continue
        columns = {
            "coder": row.arm.coder,
            "latent": row.latent,
            "explainer": row.arm.explainer,
            "control": row.arm.control,
            "scorer": row.scoring.scorer,
            "rung": row.scoring.rung,
            **{name: getattr(verdicts, name) for name in _VERDICTS[6:13]},
            "failure": [FAILURES[code - 1] if code else None for code in verdicts.failure.tolist()],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(_VERDICTS))


def text_frame(run: Run) -> pd.DataFrame:
    """See `harness.analysis.load.Run.texts`."""
    rows = []
    for row in run.score_rows():
        written = [] if row.unit is None else row.unit.result.get("written", [])
        if not written or (verdicts := row.verdicts) is None:
            continue
        whose = (row.arm.coder, row.latent, row.arm.explainer, row.arm.control, row.scoring.scorer)
        columns = (verdicts.truth, verdicts.label, verdicts.value, verdicts.failure)
        for (text, _), (truth, label, value, failure) in zip(
            written, zip(*(column.tolist() for column in columns), strict=True), strict=True
        ):
            said = (None, None, None, FAILURES[failure - 1]) if failure else (text, label == 1, value, None)
            rows.append(dict(zip(_TEXTS, (*whose, truth == 1, *said), strict=True)))
    return pd.DataFrame(rows, columns=list(_TEXTS))
