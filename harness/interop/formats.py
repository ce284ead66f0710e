"""The formats that can be told apart: by what a document has, with what is right in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.interop import (
    delphi_results,
    inspect_log,
    neuronpedia,
    neuronpedia_read,
    neuronpedia_rows,
    openai_records,
    saebench,
    saedashboard,
    score_rows,
    written_lists,
)
from harness.interop.documents import decoded, keys_of
from harness.interop.findings import Found

__all__ = ["PARTS", "Part", "part_of"]

Check = Callable[[bytes, str], Any]
Read = Callable[[bytes, str], Iterable[Found]]


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of document of one format.

    `needs` are keys that it has and no earlier part of `PARTS` asks for. `check` raises FormatError where a document
    is not right. `read` gives the explanations in it, None where it has none. `columns` is whether every line of a file
    has to have the keys of the first.
    """

    format: str
    what: str
    needs: frozenset[str]
    check: Check
    read: Read | None = None
    columns: bool = False


def _as(kind: type[msgspec.Struct]) -> Check:
    def check(data: bytes, where: str) -> None:
        decoded(data, kind, where)

    return check


def _all(read: Callable[[bytes, str], Iterable[Any]]) -> Check:
    def check(data: bytes, where: str) -> None:
        for _ in read(data, where):
            pass

    return check


def _one(read: Callable[[bytes, str], Found]) -> Read:
    return lambda data, where: (read(data, where),)


def _keys(*names: str) -> frozenset[str]:
    return frozenset(names)


_NP = "neuronpedia"
# the first whose keys a document has
PARTS: tuple[Part, ...] = (
    Part("saedashboard", "SAEDashboard's feature batch", saedashboard.KEYS, saedashboard.check),
    Part(
        _NP, "lines of Neuronpedia's exported activations", neuronpedia.LINE_KEYS, neuronpedia_read.check_activation,
        columns=True,
    ),
    Part(
        _NP, "features as Neuronpedia's API gives them", neuronpedia.FEATURE_KEYS,
        lambda data, where: (_all(neuronpedia.features)(data, where), _all(neuronpedia_read.features)(data, where)),
        neuronpedia_read.features,
    ),
    Part(
        _NP, "lines of Neuronpedia's exported explanations", _keys("modelId", "layer", "index", "description"),
        neuronpedia_read.explanation, lambda data, where: (neuronpedia_read.explanation(data, where)[1],), columns=True,
    ),
    Part(
        _NP, "rows of Neuronpedia's scores", _keys("explanationId", "explanationScoreTypeName", "jsonDetails"),
        neuronpedia_read.score, columns=True,
    ),
    Part(
        _NP, "lines of Neuronpedia's exported features", _keys("modelId", "layer", "index", "maxActApprox"),
        _as(neuronpedia_rows.FeatureRow), columns=True,
    ),
    Part(
        _NP, "Neuronpedia's upload batch", _keys("modelId", "source", "features"), _all(neuronpedia_read.uploaded),
        neuronpedia_read.uploaded,
    ),
    Part(
        _NP, "Neuronpedia's source", _keys("id", "modelId", "setName"), _as(neuronpedia_rows.SourceRow), columns=True
    ),
    Part(
        _NP, "Neuronpedia's source set", _keys("modelId", "name", "releaseName"), _as(neuronpedia_rows.SourceSetRow),
        columns=True,
    ),
    Part(
        _NP, "Neuronpedia's release", _keys("name", "descriptionShort", "creatorName"),
        _as(neuronpedia_rows.ReleaseRow), columns=True,
    ),
    Part(
        _NP, "Neuronpedia's model", _keys("id", "displayName", "neuronsPerLayer"), _as(neuronpedia_rows.ModelRow),
        columns=True,
    ),
    Part(
        "saebench", "SAEBench's autointerp results", saebench.KEYS, _all(saebench.read_results), saebench.read_results
    ),
    Part("openai", "OpenAI's neuron record", openai_records.RECORD_KEYS, openai_records.read_record),
    Part(
        "openai", "OpenAI's scored simulations", openai_records.RESULT_KEYS, openai_records.read_results,
        _one(openai_records.read_results),
    ),
    Part("delphi", "delphi's score rows", _keys("distance"), score_rows.read_rows),
    Part("inspect", "a log of inspect_ai", inspect_log.KEYS, inspect_log.check),
    Part(
        "jsonl", "scores as this project exports them", written_lists.SCORE_KEYS, _all(written_lists.score),
        columns=True,
    ),
    Part(
        "jsonl", "explanations as this project exports them", written_lists.EXPORT_KEYS, _all(written_lists.exported),
        written_lists.exported, columns=True,
    ),
    Part(
        "jsonl", "a list of explanations", written_lists.LINE_KEYS, _all(written_lists.line), written_lists.line
    ),
)  # fmt: skip
# told by where their files lie and what these are called
_TEXT = Part("delphi", "delphi's explanation", frozenset(), delphi_results.explanation_of)
_ROWS = next(part for part in PARTS if part.what == "delphi's score rows")


def part_of(data: bytes, path: Path) -> Part | None:
    """What the first document of a file is; None where that is not known."""
    if path.suffix == ".txt":
        if not delphi_results.is_named(path):
            return None
        return _ROWS if data.lstrip()[:1] == b"[" else _TEXT
    keys = keys_of(data)
    return None if keys is None else next((part for part in PARTS if part.needs <= keys), None)
