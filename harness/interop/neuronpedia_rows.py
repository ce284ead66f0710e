"""Neuronpedia's tables as rows: of its bulk export, and of the scores that it keeps beside it."""

# ruff: noqa: N815 - the names are the format's

from __future__ import annotations

from typing import Annotated, Any

import msgspec

__all__ = [
    "ACTIVATION_COLUMNS",
    "SCORE_TYPES",
    "ActivationRow",
    "ExplanationRow",
    "FeatureRow",
    "ModelRow",
    "ReleaseRow",
    "ScoreTableRow",
    "SourceRow",
    "SourceSetRow",
    "plain",
]

# kinds of our scorers and what Neuronpedia calls theirs
SCORE_TYPES = {"fuzzing": "eleuther_fuzz", "detection": "eleuther_recall", "embedding": "eleuther_embedding"}

_Id = Annotated[str, msgspec.Meta(min_length=1)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ModelRow(msgspec.Struct):
    """The line of `model.jsonl`."""

    id: _Id
    displayName: str
    layers: int
    neuronsPerLayer: int
    creatorId: str
    visibility: str = "UNLISTED"
    instruct: bool = False
    displayNameShort: str = ""
    tlensId: str | None = None
    dimension: int | None = None
    inferenceEnabled: bool = False
    owner: str = ""
    website: str | None = None
    createdAt: str = ""
    updatedAt: str = ""


class ReleaseRow(msgspec.Struct):
    """The line of `release.jsonl`."""

    name: _Id
    description: str
    creatorName: str
    creatorId: str
    visibility: str = "UNLISTED"
    isNewUi: bool = True
    featured: bool = False
    descriptionShort: str = ""
    urls: list[str] = []
    createdAt: str = ""


class SourceSetRow(msgspec.Struct):
    """The line of `sourceset.jsonl`."""

    modelId: _Id
    name: _Id
    creatorId: str
    description: str
    type: str
    creatorName: str
    releaseName: str | None
    visibility: str = "UNLISTED"
    hasDashboards: bool = True
    urls: list[str] = []
    createdAt: str = ""


class SourceRow(msgspec.Struct):
    """The line of `source.jsonl`."""

    id: _Id
    modelId: _Id
    setName: _Id
    creatorId: str
    visibility: str = "UNLISTED"
    hasDashboards: bool = True
    inferenceEnabled: bool = False
    hfRepoId: str | None = None
    hfFolderId: str | None = None
    num_prompts: int | None = None
    num_tokens_in_prompt: int | None = None
    dataset: str | None = None
    notes: str | None = None
    createdAt: str = ""


class FeatureRow(msgspec.Struct):
    """A line of `features/batch-n.jsonl.gz`; `frac_nonzero` is left out on every line where it is not known."""

    modelId: _Id
    layer: _Id
    index: _Id | int
    creatorId: str
    sourceSetName: str | None = None
    maxActApprox: float | None = None
    frac_nonzero: _Share | msgspec.UnsetType = msgspec.UNSET
    freq_hist_data_bar_heights: list[float] = []
    freq_hist_data_bar_values: list[float] = []
    logits_hist_data_bar_heights: list[float] = []
    logits_hist_data_bar_values: list[float] = []
    neuron_alignment_indices: list[int] = []
    neuron_alignment_l1: list[float] = []
    neuron_alignment_values: list[float] = []
    correlated_neurons_indices: list[int] = []
    correlated_neurons_l1: list[float] = []
    correlated_neurons_pearson: list[float] = []
    decoder_weights_dist: list[float] = []
    neg_str: list[str] = []
    neg_values: list[float] = []
    pos_str: list[str] = []
    pos_values: list[float] = []
    topkCosSimIndices: list[int] = []
    topkCosSimValues: list[float] = []
    vector: list[float] = []
    vectorLabel: str | None = None
    hookName: str | None = None
    vectorDefaultSteerStrength: float | None = None
    hasVector: bool = False


class ActivationRow(msgspec.Struct):
    """A line of `activations/batch-n.jsonl.gz`."""

    id: _Id
    modelId: _Id
    layer: _Id
    index: _Id | int
    creatorId: str
    tokens: list[str]
    values: list[float]
    maxValue: float
    minValue: float
    maxValueTokenIndex: int
    dataSource: str | None = None
    dfaValues: list[float] = []
    dfaMaxValue: float | None = None
    dfaTargetIndex: int | None = None
    binMin: float | None = None
    binMax: float | None = None
    binContains: float | None = None


class ExplanationRow(msgspec.Struct):
    """A line of `explanations/batch-n.jsonl.gz`."""

    id: _Id
    modelId: _Id
    layer: _Id
    index: _Id | int
    description: _Id
    authorId: str | None = None
    typeName: str | None = None
    explanationModelName: str | None = None
    triggeredById: str | None = None
    notes: str | None = None
    createdAt: str = ""


class ScoreTableRow(msgspec.Struct):
    """A row of scores, which are in no export of theirs; `jsonDetails` is JSON in a string."""

    id: _Id
    value: float
    explanationId: _Id
    explanationScoreTypeName: _Id
    explanationScoreModelName: str | None
    jsonDetails: str
    initiatedByUserId: str | None = None
    createdAt: str = ""


# what their own reader of activations knows; any other key crashes it
ACTIVATION_COLUMNS = frozenset(ActivationRow.__struct_fields__) | {
    "dataIndex", "createdAt", "lossValues", "logitContributions", "qualifyingTokenIndex", "zIndices", "zValues",
}  # fmt: skip


def plain(row: msgspec.Struct) -> dict[str, Any]:
    """A row as a dictionary in the order of its columns."""
    return msgspec.to_builtins(row)
