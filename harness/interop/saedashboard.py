"""SAEDashboard's feature batches (`batch-0.json`), which Neuronpedia is fed with, read and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import FormatError
from harness.interop.documents import decoded
from harness.interop.findings import About, Found, Section, Window, sections
from harness.interop.records import Record
from harness.interop.writing import chunks, write_json

__all__ = ["FEATURES", "KEYS", "check", "records", "write_batches"]

# features of a file, as their own runner makes them
FEATURES = 64

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


def check(data: bytes, where: str) -> None:
    """Whether a batch is right: as `records` reads it, with one value for each token.

    Raises:
        FormatError: it is not.
    """
    for record in records(data, where):
        if len(record.tokens) != len(record.values):
            raise FormatError(
                f"{record.where}.values: {len(record.values)} values for {len(record.tokens)} tokens; expected one a "
                "token"
            )


def write_batches(about: About, latents: Iterable[Found], folder: Path) -> list[str]:
    """Write a folder for each coder, `batch-n.json` in it; what was left out is told in sentences.

    Windows of one quantile are one bin; silent ones are the bin -1. Logits, correlations and weights are not known to a
    run, so that their lists are empty.
    """
    bare = 0
    for name, some in groupby(latents, key=lambda found: found.coder):
        coder = about.coders[name]
        number = 0
        for part in chunks(some, FEATURES):
            kept = [found for found in part if found.windows]
            bare += len(part) - len(kept)
            if not kept:
                continue
            body = {
                "model_id": about.model_id,
                "layer": coder.layer,
                "sae_set": coder.set_name,
                "sae_id_suffix": None,
                "features": [_feature(about, found) for found in kept],
            }
            write_json(folder / coder.source / f"batch-{number}.json", body)
            number += 1
    return [f"{bare} latents without examples are left out"] if bare else []


_UNKNOWN = (
    "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1", "correlated_neurons_indices",
    "correlated_neurons_pearson", "correlated_neurons_l1", "correlated_features_indices",
    "correlated_features_pearson", "correlated_features_l1", "neg_str", "neg_values", "pos_str", "pos_values",
    "logits_hist_data_bar_heights", "logits_hist_data_bar_values", "decoder_weights_dist", "vector",
)  # fmt: skip


def _feature(about: About, found: Found) -> dict[str, Any]:
    of = sections(found.windows)
    heights: list[float] = []
    middles: list[float] = []
    if found.histogram and found.maximum:
        width = found.maximum / len(found.histogram)
        heights = [float(count) for count in found.histogram]
        middles = [width * (at + 0.5) for at in range(len(found.histogram))]
    return {
        "feature_index": found.latent,
        **{name: list[float]() for name in _UNKNOWN},
        **({} if found.rate is None else {"frac_nonzero": found.rate}),
        "freq_hist_data_bar_values": middles,
        "freq_hist_data_bar_heights": heights,
        "n_prompts_total": about.tokens // about.context if about.context else 0,
        "n_tokens_in_prompt": about.context,
        "dataset": about.dataset,
        "activations": [_activation(window, of) for window in found.windows],
    }


def _activation(window: Window, of: Mapping[int, Section]) -> dict[str, Any]:
    # the bin of what has no quantile
    section = Section(0.0, 0.0, -1.0) if window.quantile is None else of[window.quantile]
    return {
        "bin_min": section.low,
        "bin_max": section.high,
        "bin_contains": section.share,
        "tokens": list(window.tokens),
        "values": list(window.values),
        "qualifying_token_index": max(range(len(window.values)), key=window.values.__getitem__),
    }
