"""Neuronpedia's explanations and scores: lines of its export, features of its API, and upload batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from harness.errors import FormatError
from harness.interop.documents import decoded
from harness.interop.findings import Found, Score, Told, Window
from harness.interop.neuronpedia_rows import (
    ACTIVATION_COLUMNS,
    SCORE_TYPES,
    ActivationRow,
    ExplanationRow,
    ScoreTableRow,
)
from harness.interop.neuronpedia_upload import read_batch
from harness.interop.score_rows import figures_of, read_rows

__all__ = ["check_activation", "explanation", "features", "score", "uploaded"]

_KINDS = {theirs: ours for ours, theirs in SCORE_TYPES.items()}
# what a score is called where nothing but its value is known
FIGURE = "score"


class _ApiExplanation(ExplanationRow):
    scores: tuple[ScoreTableRow, ...] = ()


class _ApiFeature(msgspec.Struct):
    modelId: str  # noqa: N815 - the format's name
    layer: str
    index: str | int
    explanations: list[_ApiExplanation] = []


def explanation(data: bytes, where: str) -> tuple[str, Found]:
    """A line of the export's `explanations/`: its id, and what it tells.

    Raises:
        FormatError: it is broken.
    """
    row: ExplanationRow = decoded(data, ExplanationRow, where)
    return row.id, _found(row, where)


def score(data: bytes, where: str) -> tuple[str, Score]:
    """A row of scores: the id of the explanation, and its score.

    Raises:
        FormatError: it, or what is in its `jsonDetails`, is broken.
    """
    row: ScoreTableRow = decoded(data, ScoreTableRow, where)
    return row.explanationId, _score(row, where)


def features(data: bytes, where: str) -> Iterator[Found]:
    """The explanations, with their scores, of a feature as the API gives it, or of an array of such.

    Raises:
        FormatError: it is broken.
    """
    found: list[_ApiFeature] | _ApiFeature = decoded(data, list[_ApiFeature] | _ApiFeature, where)
    for at, feature in enumerate(found if isinstance(found, list) else [found]):
        place = f"{where}: [{at}]" if isinstance(found, list) else where
        index = _index(feature.index, place)
        told = []
        for number, row in enumerate(feature.explanations):
            inside = f"{place}: explanations[{number}]"
            scores = tuple(_score(s, f"{inside}.scores[{k}]") for k, s in enumerate(row.scores))
            told.append(_told(row, scores))
        yield Found(feature.layer, index, tuple(told))


def uploaded(data: bytes, where: str) -> Iterator[Found]:
    """The latents of an upload batch, with their rows.

    Raises:
        FormatError: it is broken, or does not keep a limit.
    """
    batch = read_batch(data, where)
    for feature in batch.features:
        told = [Told(e.methodName or "uploaded", e.text, e.modelName) for e in feature.explanations or ()]
        windows = [Window(tuple(one.tokens), tuple(one.values)) for one in feature.activations]
        yield Found(batch.source, feature.index, tuple(told), tuple(windows), rate=feature.density)


def check_activation(data: bytes, where: str) -> None:
    """Whether a line of `activations/` is one that their own reader takes.

    Raises:
        FormatError: it is broken, has not one value for each token, or a key that crashes their reader.
    """
    row: ActivationRow = decoded(data, ActivationRow, where)
    _index(row.index, where)
    if len(row.tokens) != len(row.values):
        raise FormatError(
            f"{where}: values: {len(row.values)} values for {len(row.tokens)} tokens; expected one a token"
        )
    raw: dict[str, Any] = decoded(data, dict[str, msgspec.Raw], where)
    if unknown := sorted(set(raw) - ACTIVATION_COLUMNS):
        raise FormatError(f"{where}: {unknown[0]}: their reader crashes on a key that it does not know; expected none")


def _found(row: ExplanationRow, where: str) -> Found:
    return Found(row.layer, _index(row.index, where), (_told(row),))


def _told(row: ExplanationRow, scores: tuple[Score, ...] = ()) -> Told:
    # `notes` names the explainer where this project wrote the row
    name = row.notes if row.authorId == "latent-harness" and row.notes else row.typeName
    return Told(name or row.authorId or "neuronpedia", row.description, row.explanationModelName, scores=scores)


def _score(row: ScoreTableRow, where: str) -> Score:
    kind = _KINDS.get(row.explanationScoreTypeName)
    # details of other scorers are of another shape, and their value is all that is read
    judged = read_rows(row.jsonDetails.encode(), f"{where}: jsonDetails") if kind and row.jsonDetails else ()
    figures = figures_of(judged) | {FIGURE: row.value}
    name = kind or row.explanationScoreTypeName
    return Score(name, name, FIGURE, figures, row.explanationScoreModelName, judged)


def _index(index: str | int, where: str) -> int:
    try:
        found = int(index)
    except ValueError:
        found = -1
    if found < 0:
        raise FormatError(f'{where}: index: "{index}"; expected a latent\'s number')
    return found
