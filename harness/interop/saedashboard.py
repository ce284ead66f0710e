"""SAEDashboard's feature batches (`batch-0.json`), which Neuronpedia is fed with."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from harness.interop.documents import decoded
from harness.interop.records import Record

__all__ = ["KEYS", "records"]

# what a document of this format has, and others have not
KEYS = frozenset({"model_id", "layer", "sae_set", "features"})


class _Activation(msgspec.Struct):
    tokens: list[str]
    values: list[float]


class _Feature(msgspec.Struct):
    feature_index: int
    activations: list[_Activation] = []
    dataset: str | None = None


class _Batch(msgspec.Struct):
    model_id: str
    layer: int | str
    sae_set: str
    features: list[_Feature]
    sae_id_suffix: str | None = None


def records(data: bytes, where: str) -> Iterator[Record]:
    """The records of a batch; a latent's coder is called as Neuronpedia calls it, `<layer>-<set>`.

    Raises:
        FormatError: the batch is broken.
    """
    batch: _Batch = decoded(data, _Batch, where)
    source = f"{batch.layer}-{batch.sae_set}" + (f"__{batch.sae_id_suffix}" if batch.sae_id_suffix else "")
    for feature in batch.features:
        for number, found in enumerate(feature.activations):
            place = f"{where}: feature {feature.feature_index}, activations[{number}]"
            yield Record(
                batch.model_id,
                source,
                feature.feature_index,
                found.tokens,
                found.values,
                place,
                feature.dataset or "",
            )
