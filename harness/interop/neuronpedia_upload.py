"""Neuronpedia's upload batches: what a body may hold, and findings as bodies."""

# ruff: noqa: N815 - the names are the format's

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from harness.errors import FormatError
from harness.interop.documents import decoded
from harness.interop.findings import About, AboutCoder, Found, Section, Told, Window, sections
from harness.interop.writing import chunks, json_text, write_json

__all__ = [
    "EXPLANATION",
    "FEATURES",
    "TOKENS",
    "UploadActivation",
    "UploadBatch",
    "UploadExplanation",
    "UploadFeature",
    "UploadLogit",
    "Uploads",
    "read_batch",
]

# features of a body, characters of an explanation (as JavaScript counts them), tokens of an activation
FEATURES = 128
EXPLANATION = 512
TOKENS = 1024
_LARGEST = 10_000_000
_QUANTILE = 99_999_999

Meta = msgspec.Meta
_Lower = Annotated[str, Meta(min_length=1, pattern=r"^[^A-Z]*$")]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Bound = Annotated[float, Meta(le=_QUANTILE)]


class UploadLogit(msgspec.Struct):
    """A token with the logit that the latent adds to it."""

    token: str
    value: float


class UploadExplanation(msgspec.Struct):
    """An explanation; method and model have to be known there."""

    text: Annotated[str, Meta(min_length=1)]
    methodName: str | None = None
    modelName: str | None = None


class UploadActivation(msgspec.Struct):
    """A row of tokens with its values; equal quantiles are shown together."""

    tokens: Annotated[list[str], Meta(min_length=1, max_length=TOKENS)]
    values: list[float]
    quantileMin: _Bound | None = None
    quantileMax: _Bound | None = None
    quantileFraction: _Share | None = None


class UploadFeature(msgspec.Struct):
    """One latent."""

    index: Annotated[int, Meta(ge=0, le=_LARGEST)]
    activations: Annotated[list[UploadActivation], Meta(min_length=1)]
    density: _Share | None = None
    topLogits: Annotated[list[UploadLogit], Meta(max_length=20)] | None = None
    bottomLogits: Annotated[list[UploadLogit], Meta(max_length=20)] | None = None
    explanations: list[UploadExplanation] | None = None


class UploadBatch(msgspec.Struct):
    """The body of `POST /api/feature/upload-batch`."""

    modelId: _Lower
    source: _Lower
    features: Annotated[list[UploadFeature], Meta(min_length=1, max_length=FEATURES)]


def read_batch(data: bytes, where: str) -> UploadBatch:
    """A body that keeps every limit.

    Raises:
        FormatError: it does not; the message tells which.
    """
    batch: UploadBatch = decoded(data, UploadBatch, where)
    seen: set[int] = set()
    for at, feature in enumerate(batch.features):
        place = f"{where}: features[{at}]"
        if feature.index in seen:
            raise FormatError(f"{place}.index: {feature.index} is there twice; expected each feature once in a batch")
        seen.add(feature.index)
        for number, explanation in enumerate(feature.explanations or ()):
            if (length := _length(explanation.text)) > EXPLANATION:
                raise FormatError(
                    f"{place}.explanations[{number}].text: {length} characters; expected at most {EXPLANATION}"
                )
        for number, one in enumerate(feature.activations):
            if len(one.tokens) != len(one.values):
                raise FormatError(
                    f"{place}.activations[{number}].values: {len(one.values)} values for {len(one.tokens)} tokens; "
                    "expected one a token"
                )
    return batch


class Uploads:
    """Writes a coder's latents as bodies into a folder, `batch-n.json`, each checked before it is written.

    What would break a limit is left out and counted. Text has no NUL, which their database refuses, but a blank.
    """

    def __init__(self, about: About, coder: AboutCoder, folder: Path, method: str | None = None) -> None:
        self._head = {"modelId": about.model_id.lower(), "source": coder.source}
        self._folder, self._method = folder, method
        self._number = 0
        self._left: Counter[str] = Counter()

    def write(self, latents: Iterable[Found]) -> None:
        """Write some latents, as many bodies as they need."""
        features = (_feature(found, self._method, self._left) for found in latents)
        for some in chunks((feature for feature in features if feature is not None), FEATURES):
            body = {**self._head, "features": some}
            path = self._folder / f"batch-{self._number}.json"
            read_batch(json_text(body).encode(), path.name)
            write_json(path, body)
            self._number += 1

    def left(self) -> list[str]:
        """What was left out, in sentences."""
        return [f"{count} {what}" for what, count in self._left.items()]


def _feature(found: Found, method: str | None, left: Counter[str]) -> dict[str, Any] | None:
    if not 0 <= found.latent <= _LARGEST:
        left[f"latents above {_LARGEST:,} are not in the upload batches"] += 1
        return None
    of = sections(found.windows)
    activations = [_activation(window, of) for window in found.windows if 0 < len(window.tokens) <= TOKENS]
    if not activations:
        left["latents without examples are not in the upload batches"] += 1
        return None
    feature: dict[str, Any] = {"index": found.latent}
    if found.rate is not None:
        feature["density"] = found.rate
    explanations = list(_explanations(found.told, method, left))
    return feature | ({"explanations": explanations} if explanations else {}) | {"activations": activations}


def _activation(window: Window, of: Mapping[int, Section]) -> dict[str, Any]:
    row: dict[str, Any] = {"tokens": [_stored(token) for token in window.tokens], "values": list(window.values)}
    if window.quantile is None:
        return row
    section = of[window.quantile]
    return row | {"quantileMin": section.low, "quantileMax": section.high, "quantileFraction": section.share}


def _explanations(told: Iterable[Told], method: str | None, left: Counter[str]) -> Iterator[dict[str, Any]]:
    for one in told:
        if one.control is not None or not one.text:
            continue
        text = _stored(one.text)
        if _length(text) > EXPLANATION:
            left[f"explanations of more than {EXPLANATION} characters are not in the upload batches"] += 1
            continue
        row = {"text": text}
        yield row | ({"methodName": method} if method else {}) | ({"modelName": _model(one)} if one.model else {})


def _model(told: Told) -> str:
    """A model as it is called there: without who provides it."""
    return (told.model or "").rpartition("/")[2]


def _length(text: str) -> int:
    """Characters as JavaScript counts them, in which their limits are."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _stored(text: str) -> str:
    return text.replace("\x00", " ")
