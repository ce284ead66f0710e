"""Neuronpedia's records: lines of its export's `activations/`, and features as its API gives them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from harness.errors import FormatError
from harness.interop.documents import decoded
from harness.interop.records import Record

__all__ = ["FEATURE_KEYS", "LINE_KEYS", "features", "lines"]

# what a line of the export has, and what a feature of the API
LINE_KEYS = frozenset({"modelId", "layer", "index", "tokens", "values"})
FEATURE_KEYS = frozenset({"modelId", "layer", "index", "activations"})


class _Line(msgspec.Struct):
    modelId: str  # noqa: N815 - the format's names
    layer: str
    index: str | int
    tokens: list[str]
    values: list[float]


class _Activation(msgspec.Struct):
    tokens: list[str]
    values: list[float]


class _Feature(msgspec.Struct):
    modelId: str  # noqa: N815 - the format's names
    layer: str
    index: str | int
    activations: list[_Activation]


def lines(data: bytes, where: str) -> Iterator[Record]:
    """The record of a line of the export, or those of an array of such.

    Raises:
        FormatError: it is broken.
    """
    found: list[_Line] | _Line = decoded(data, list[_Line] | _Line, where)
    for number, line in enumerate(found if isinstance(found, list) else [found]):
        place = f"{where}: [{number}]" if isinstance(found, list) else where
        yield Record(line.modelId, line.layer, _index(line.index, place), line.tokens, line.values, place)


def features(data: bytes, where: str) -> Iterator[Record]:
    """The records of a feature as the API gives it, or of an array of such.

    Raises:
        FormatError: it is broken.
    """
    found: list[_Feature] | _Feature = decoded(data, list[_Feature] | _Feature, where)
    for feature in found if isinstance(found, list) else [found]:
        for number, one in enumerate(feature.activations):
            place = f"{where}: feature {feature.index}, activations[{number}]"
            index = _index(feature.index, place)
            yield Record(feature.modelId, feature.layer, index, one.tokens, one.values, place)


def _index(index: str | int, where: str) -> int:
    try:
        return int(index)
    except ValueError:
        raise FormatError(f'{where}: index: "{index}" is no latent\'s number') from None
