"""Explanations that were written down: CSV or JSON lines with `latent` and `explanation`, and our own export."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from harness.errors import FormatError
from harness.interop.documents import decoded
from harness.interop.findings import Found, Score, Told

__all__ = ["EXPORT_KEYS", "LINE_KEYS", "SCORE_KEYS", "exported", "line", "line_of", "of_table", "score", "table"]

# what a line has: of a list, of our export's explanations, and of its scores
LINE_KEYS = frozenset({"latent", "explanation"})
EXPORT_KEYS = frozenset({"run", "coder", "latent", "explainer", "control", "text", "status"})
SCORE_KEYS = frozenset({"run", "coder", "latent", "explainer", "control", "scorer", "rung", "metrics"})

_Latent = Annotated[int, msgspec.Meta(ge=0)]
_Words = Annotated[str, msgspec.Meta(min_length=1)]


class _Score(msgspec.Struct):
    scorer: str
    figures: dict[str, float]
    kind: str = ""
    figure: str = ""
    model: str | None = None
    rung: str = "random"


class _Line(msgspec.Struct):
    latent: _Latent
    explanation: _Words
    coder: str | None = None
    explainer: str | None = None
    model: str | None = None
    scores: list[_Score] = []


class _Export(msgspec.Struct):
    run: str
    coder: str
    latent: _Latent
    explainer: str | None
    control: str | None
    text: str | None
    status: str


class _ExportScore(msgspec.Struct):
    run: str
    coder: str
    latent: _Latent
    explainer: str | None
    control: str | None
    scorer: str
    rung: str
    status: str
    metrics: dict[str, Any]
    scorer_model: str | None = None


def line(data: bytes, where: str) -> Iterator[Found]:
    """A line of a list; the coder is empty where none is named.

    Raises:
        FormatError: it is broken, or the explanation is blank.
    """
    row: _Line = decoded(data, _Line, where)
    if not row.explanation.strip():
        raise FormatError(f"{where}: explanation: it is blank; expected words")
    scores = tuple(Score(s.scorer, s.kind or s.scorer, s.figure, s.figures, s.model, (), s.rung) for s in row.scores)
    yield Found(row.coder or "", row.latent, (Told(row.explainer or "", row.explanation, row.model, scores=scores),))


def line_of(found: Found, told: Told) -> dict[str, Any]:
    """What `line` reads: an explanation with its scores' figures."""
    row: dict[str, Any] = {"latent": found.latent, "explanation": told.text}
    row |= {"coder": found.coder} if found.coder else {}
    row |= {"explainer": told.explainer} if told.explainer else {}
    row |= {"model": told.model} if told.model else {}
    scores = [
        {
            "scorer": score.scorer,
            "kind": score.kind,
            "figure": score.figure,
            "figures": {name: value for name, value in score.figures.items() if math.isfinite(value)},
            "model": score.model,
            "rung": score.rung,
        }
        for score in told.scores
        if score.status == "ok"
    ]
    return row | ({"scores": scores} if scores else {})


def exported(data: bytes, where: str) -> Iterator[Found]:
    """A line of our export's `explanations.jsonl`: of explainers' own arms, where there is an explanation.

    Raises:
        FormatError: it is broken.
    """
    row: _Export = decoded(data, _Export, where)
    if row.control is None and row.status == "ok" and row.text:
        yield Found(row.coder, row.latent, (Told(row.explainer or "", row.text),))


def score(data: bytes, where: str) -> Iterator[tuple[tuple[str, int, str], Score]]:
    """A line of our export's `scores.jsonl`: of which coder, latent and explainer, and its figures.

    Raises:
        FormatError: it is broken.
    """
    row: _ExportScore = decoded(data, _ExportScore, where)
    if row.control is None and row.status == "ok":
        figures = {key: value for key, value in row.metrics.items() if isinstance(value, float)}
        of = (row.coder, row.latent, row.explainer or "")
        yield of, Score(row.scorer, row.scorer, "", figures, row.scorer_model, (), row.rung)


def table(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with their places: each has `latent` and `explanation`.

    Raises:
        FormatError: it cannot be read, lacks a column, or a row is of another length.
    """
    try:
        # the mark that a spreadsheet puts first is none of the name of the first column
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            missing = sorted(LINE_KEYS - set(rows.fieldnames or ()))
            if missing:
                has = ", ".join(rows.fieldnames or ()) or "nothing"
                raise FormatError(f"{path}, line 1: {missing[0]}: there is no such column; it has: {has}")
            for row in rows:
                place = f"{path}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise FormatError(f"{place}: it has not as many fields as line 1, {len(rows.fieldnames or ())}")
                yield place, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: this table cannot be read: {error}") from error


def of_table(where: str, row: dict[str, str]) -> Found:
    """What a row of a table tells.

    Raises:
        FormatError: the latent is no number, or the explanation is blank.
    """
    latent, text = row["latent"].strip(), row["explanation"]
    if not (latent.isascii() and latent.isdigit()):
        raise FormatError(f'{where}: latent: "{latent}"; expected a latent\'s number')
    if not text.strip():
        raise FormatError(f"{where}: explanation: it is blank; expected words")
    told = Told(row.get("explainer") or "", text, row.get("model") or None)
    return Found(row.get("coder") or "", int(latent), (told,))
