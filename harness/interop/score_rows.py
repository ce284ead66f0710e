"""Verdicts on windows as delphi's score rows, which Neuronpedia's score details are of, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from harness import metrics
from harness.errors import FormatError
from harness.interop.documents import decoded
from harness.interop.findings import Judged, Window
from harness.metrics.ranking import ranking

__all__ = ["SILENT", "ScoreRow", "figures_of", "read_rows", "row_of"]

# the distance of a window in which the latent is silent
SILENT = -1
# one that activates it where the quantile is not known
_UNKNOWN = 0

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ScoreRow(msgspec.Struct):
    """A row as any of their releases writes it; which keys it has says of which scorer it is."""

    distance: float = 0
    text: str | None = None
    str_tokens: list[str] | None = None
    activations: list[float] | None = None
    activating: bool | None = None
    ground_truth: bool | None = None
    prediction: bool | None = None
    highlighted: bool | None = None
    marks: list[int] = []
    probability: Probability | None = None
    conditional_probability: float | None = None
    correct: bool | None = None
    similarity: float | None = None
    no_explanation: list[float] | None = None
    explanation: list[float] | None = None


def row_of(judged: Judged, *, detail: bool = False) -> dict[str, Any]:
    """A verdict as a row: of now, or with `detail` as Neuronpedia's score details have it.

    Their distance counts quantiles from the strongest, 1, and shows 11 minus it.
    """
    window, activating = judged.window, judged.truth
    distance = SILENT if not activating else _UNKNOWN if window.quantile is None else 11 - window.quantile
    if judged.value is not None:
        row: dict[str, Any] = {"text": window.text, "distance": distance, "similarity": judged.value}
        return row | {"activations": list(window.values), "str_tokens": list(window.tokens)}
    label = judged.label
    correct = None if label is None else label == activating
    tokens, values = list(window.tokens), list(window.values)
    # a name of our own: theirs say whether tokens were marked, and not which
    marked = {"marks": list(judged.marks)} if judged.marks else {}
    if not detail:
        row = {"str_tokens": tokens, "activations": values, "distance": distance, "activating": activating}
        row |= {"prediction": label, "probability": judged.probability, "correct": correct}
        return row | marked
    return {
        "text": window.text,
        "distance": distance,
        "ground_truth": activating,
        "prediction": label,
        "highlighted": bool(judged.marks),
        "correct": correct,
        "probability": judged.probability,
        "conditional_probability": None,
        "activations": values,
        "str_tokens": tokens,
        **marked,
    }


def read_rows(data: bytes, where: str) -> tuple[Judged, ...]:
    """The verdicts of a list of rows.

    Raises:
        FormatError: a row is broken, has no text, or says neither what is right nor how it was judged.
    """
    rows: list[ScoreRow] = decoded(data, list[ScoreRow], where)
    return tuple(_judged(row, f"{where}: [{number}]") for number, row in enumerate(rows))


def figures_of(judged: Sequence[Judged]) -> dict[str, float]:
    """Figures of verdicts, from those that are there: of labels balanced accuracy and its kin, of values AUROC."""
    there = [each for each in judged if each.label is not None or each.value is not None]
    if not there:
        return {}
    truth = np.array([each.truth for each in there])
    quantiles = np.array([each.window.quantile or 0 for each in there], np.uint8)
    if there[0].value is not None:
        found = ranking(truth, np.array([each.value for each in there], np.float32), quantiles)
    else:
        # a whole column of probabilities orders the windows, a part of one does not
        said = [each.probability for each in there]
        whole = None if any(p is None for p in said) else np.array(said, np.float64)
        labels = np.array([float(bool(each.label)) for each in there])
        found = metrics.classification(truth, labels, whole, quantiles).as_dict()
    return {key: value for key, value in found.items() if isinstance(value, float)}


def _judged(row: ScoreRow, where: str) -> Judged:
    tokens, values = row.str_tokens, row.activations
    if tokens is None:
        if row.text is None:
            raise FormatError(f"{where}: str_tokens: is missing, and so is text; a row needs one of them")
        tokens = [row.text]
        # the text of a row without tokens stands as one, as strong as the row is at most
        values = [max(values, default=0.0)] if values is not None else [0.0 if row.distance < 0 else 1.0]
    if values is None:
        raise FormatError(f"{where}: activations: is missing")
    if len(tokens) != len(values):
        raise FormatError(f"{where}: activations: {len(values)} numbers for {len(tokens)} tokens; expected one a token")
    truth = next((t for t in (row.activating, row.ground_truth) if t is not None), row.distance >= 0)
    window = Window(tuple(tokens), tuple(values), _quantile(row.distance, activating=truth))
    if row.similarity is not None:
        return Judged(window, truth, value=row.similarity)
    if row.no_explanation is not None and row.explanation is not None:
        # surprisals: by how much the explanation lowers them
        return Judged(window, truth, value=sum(row.no_explanation) - sum(row.explanation))
    if row.marks and not 0 <= min(row.marks) <= max(row.marks) < len(tokens):
        raise FormatError(f"{where}: marks: {max(row.marks)}; expected positions from 0 to {len(tokens) - 1}")
    failure = "unparsable" if row.prediction is None else ""
    return Judged(window, truth, row.prediction, row.probability, marks=tuple(row.marks), failure=failure)


def _quantile(distance: float, *, activating: bool) -> int | None:
    whole = round(11 - distance)
    return whole if activating and 1 <= distance <= 10 else None
