"""Figures of a judge's labels and probabilities against the truth, for one latent.

A figure that the examples do not define is NaN here and None in `Figures`, never 0:

    accuracy                   no answered example
    balanced accuracy, AUROC   a class has no answered example
    average precision          a class has no answered example
    recall                     no activating example
    precision                  nothing was called activating
    F1, IoU                    nothing is activating and nothing was called so
    MCC                        a class is empty, or all answers are the same

Every figure is a function of weights, one for each example and class, so that the same code computes the plain
figure (weights 1), the figure at a base rate and the figure in each resample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CHANCE",
    "METRICS",
    "RANKING",
    "WORST",
    "Figures",
    "Votes",
    "auroc",
    "average_precision",
    "classification",
    "figure",
]

Floats = NDArray[np.float64]

# What a fair coin gives where one half of the examples are activating: what a failure counts as in a mean.
CHANCE: Mapping[str, float] = {
    "accuracy": 0.5,
    "auroc": 0.5,
    "average_precision": 0.5,
    "balanced_accuracy": 0.5,
    "f1": 0.5,
    "iou": 1 / 3,
    "mcc": 0.0,
    "nats": 0.0,
    "pearson": 0.0,
    "precision": 0.5,
    "recall": 0.5,
    "spearman": 0.0,
}

# The least a figure can be, where it is a share: what a failure counts as in the worst case.
WORST: Mapping[str, float] = {name: 0.0 for name in CHANCE if name not in ("mcc", "nats", "pearson", "spearman")}

# Figures that need probabilities (or any scores that order the examples), not labels.
RANKING = frozenset({"auroc", "average_precision"})


@dataclass(frozen=True, slots=True)
class Figures:
    """One latent's figures under one scorer; None where a figure is not defined.

    `n_pos` and `n_neg` are the examples of each class, `failed` those of both without an answer, which are in no
    figure. `auroc` and `average_precision` are over the answered examples that have a probability, None where
    none has. `by_quantile` is the share of each quantile's activating examples called activating.
    """

    n_pos: int
    n_neg: int
    failed: int
    accuracy: float | None
    balanced_accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    iou: float | None
    mcc: float | None
    auroc: float | None
    average_precision: float | None
    by_quantile: Mapping[int, float]

    def as_dict(self) -> dict[str, Any]:
        """The figures alone as a JSON-able mapping, quantiles as strings ("1" to "10")."""
        values: dict[str, Any] = {name: getattr(self, name) for name in METRICS}
        values["by_quantile"] = {str(quantile): share for quantile, share in self.by_quantile.items()}
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """A judge's answered examples as arrays `[examples]`.

    `truth` is 1.0 where the latent fires, `labels` 1.0 where the judge said so, `scores` what orders the
    examples, NaN where the judge gave no probability. `failed` counts the examples left out.
    """

    truth: Floats
    labels: Floats
    scores: Floats
    failed: int
    answered: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        truth: ArrayLike,
        labels: Sequence[float | None] | ArrayLike | None,
        probabilities: Sequence[float | None] | ArrayLike | None = None,
    ) -> Votes:
        """The answered examples of a judge.

        `truth` is `[examples]`, true where the latent fires; `labels` 0 or 1, None or NaN where the verdict
        failed; `probabilities` of 1, None or NaN where the judge gave none. Without any labels the probabilities
        may be numbers of any scale that order the examples, missing where the verdict failed.

        Raises:
            ValueError: lengths differ, or a label or probability is out of range.
        """
        true = np.asarray(truth, dtype=np.float64)
        said = np.full(true.shape, np.nan) if labels is None else np.asarray(labels, dtype=np.float64)
        scores = np.full(true.shape, np.nan) if probabilities is None else np.asarray(probabilities, dtype=np.float64)
        if true.ndim != 1 or said.shape != true.shape or scores.shape != true.shape:
            raise ValueError(f"truth {true.shape}, labels {said.shape} and probabilities {scores.shape} must match")
        if not np.isin(true, (0, 1)).all():
            raise ValueError("truth must be true or false")
        answered = ~np.isnan(scores if labels is None else said)
        if labels is not None and not np.isin(said[answered], (0, 1)).all():
            raise ValueError("labels must be 0, 1 or missing")
        if labels is not None and np.any((scores < 0) | (scores > 1)):
            raise ValueError("probabilities must lie in [0, 1] or be missing")
        return cls(true[answered], said[answered], scores[answered], int((~answered).sum()), answered)

    @property
    def n_pos(self) -> int:
        """Answered examples on which the latent fires."""
        return int(self.truth.sum())

    @property
    def n_neg(self) -> int:
        """Answered examples on which the latent is silent."""
        return len(self.truth) - self.n_pos

    def ranked(self) -> Votes:
        """The answered examples that have a probability."""
        has = ~np.isnan(self.scores)
        return Votes(self.truth[has], self.labels[has], self.scores[has], self.failed, self.answered)

    def used_by(self, metric: str) -> Votes:
        """The examples that a metric is computed from."""
        return self.ranked() if metric in RANKING else self


def classification(
    truth: ArrayLike,
    labels: Sequence[float | None] | ArrayLike,
    probabilities: Sequence[float | None] | ArrayLike | None = None,
    quantiles: Sequence[int | None] | ArrayLike | None = None,
) -> Figures:
    """One latent's figures from a judge's answers on examples of one rung; arguments as for `Votes.of`.

    `quantiles` is the quantile of each activating example, None or 0 for the others.

    Raises:
        ValueError: lengths differ, or a label or probability is out of range.
    """
    true = np.asarray(truth, dtype=np.float64)
    votes = Votes.of(true, labels, probabilities)
    values = {name: _number(figure(name, votes)) for name in METRICS}
    return Figures(
        n_pos=int(np.sum(true)),
        n_neg=len(true) - int(np.sum(true)),
        failed=votes.failed,
        by_quantile={} if quantiles is None else _by_quantile(votes, quantiles),
        **values,
    )


def figure(metric: str, votes: Votes, positive: Floats | None = None, negative: Floats | None = None) -> float | Floats:
    """A figure by its name (a key of `METRICS`), NaN where it is not defined.

    `positive` and `negative` are weights `[..., examples]` of the metric's examples (`votes.used_by(metric)`)
    as activating and as silent ones, by default 1 for each example's own class; the result has their leading
    shape.
    """
    used = votes.used_by(metric)
    if positive is None or negative is None:
        positive, negative = used.truth, 1 - used.truth
    basis = used.scores if metric in RANKING else used.labels
    value = METRICS[metric](positive, negative, basis)
    return float(value) if np.ndim(value) == 0 else value


def auroc(truth: ArrayLike, scores: ArrayLike) -> float:
    """The area under the ROC curve, ties counted one half: P(a positive's score > a negative's).

    `truth` and `scores` are `[examples]`, scores any real numbers; NaN where a class is empty.
    """
    true = np.asarray(truth, dtype=np.float64)
    return float(_auroc(true, 1 - true, np.asarray(scores, dtype=np.float64)))


def average_precision(truth: ArrayLike, scores: ArrayLike) -> float:
    """The area under the precision-recall curve as the sum of precision times the step in recall (AUPRC).

    `truth` and `scores` are `[examples]`, scores any real numbers, equal ones one step; NaN where a class is
    empty.
    """
    true = np.asarray(truth, dtype=np.float64)
    return float(_average_precision(true, 1 - true, np.asarray(scores, dtype=np.float64)))


def _number(value: float | Floats) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number


def _by_quantile(votes: Votes, quantiles: Sequence[int | None] | ArrayLike) -> dict[int, float]:
    of = np.nan_to_num(np.asarray(quantiles, dtype=np.float64))
    if of.shape != votes.answered.shape:
        raise ValueError(f"quantiles {of.shape} and truth {votes.answered.shape} must match")
    of, labels = (values[votes.truth == 1] for values in (of[votes.answered], votes.labels))
    return {int(quantile): float(labels[of == quantile].mean()) for quantile in np.unique(of[of > 0])}


# --- weighted figures: positive, negative [..., examples]; labels or scores [examples] ---


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, NaN where whole is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _accuracy(positive: Floats, negative: Floats, labels: Floats) -> Floats:
    return _ratio(positive @ labels + negative @ (1 - labels), positive.sum(-1) + negative.sum(-1))


def _recall(positive: Floats, negative: Floats, labels: Floats) -> Floats:  # noqa: ARG001 - one signature for all
    return _ratio(positive @ labels, positive.sum(-1))


def _balanced_accuracy(positive: Floats, negative: Floats, labels: Floats) -> Floats:
    return (_recall(positive, negative, labels) + _ratio(negative @ (1 - labels), negative.sum(-1))) / 2


def _precision(positive: Floats, negative: Floats, labels: Floats) -> Floats:
    return _ratio(positive @ labels, positive @ labels + negative @ labels)


def _f1(positive: Floats, negative: Floats, labels: Floats) -> Floats:
    return _ratio(2 * (positive @ labels), positive.sum(-1) + (positive + negative) @ labels)


def _iou(positive: Floats, negative: Floats, labels: Floats) -> Floats:
    return _ratio(positive @ labels, positive.sum(-1) + negative @ labels)


def _mcc(positive: Floats, negative: Floats, labels: Floats) -> Floats:
    """Matthews's correlation coefficient: Pearson's correlation of labels and truth."""
    tp, fn = positive @ labels, positive @ (1 - labels)
    fp, tn = negative @ labels, negative @ (1 - labels)
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def _steps(positive: Floats, negative: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """The weight of each class at each distinct score, highest score first: `[..., scores]`."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return np.add.reduceat(positive[..., order], starts, axis=-1), np.add.reduceat(
        negative[..., order], starts, axis=-1
    )


def _auroc(positive: Floats, negative: Floats, scores: Floats) -> Floats:
    whole = positive.sum(-1) * negative.sum(-1)
    if len(scores) == 0:
        return np.full(np.shape(whole), np.nan)
    here, silent = _steps(positive, negative, scores)
    # each silent example is below all activating ones of higher score and level with those of its own
    above = np.cumsum(here, axis=-1) - here / 2
    return _ratio((silent * above).sum(-1), whole)


def _average_precision(positive: Floats, negative: Floats, scores: Floats) -> Floats:
    n_pos, n_neg = positive.sum(-1), negative.sum(-1)
    if len(scores) == 0:
        return np.full(np.shape(n_pos), np.nan)
    here, silent = _steps(positive, negative, scores)
    found = np.cumsum(here, axis=-1)
    said = found + np.cumsum(silent, axis=-1)
    # a step without weight adds no recall, so its undefined precision adds nothing
    precision = np.divide(found, said, out=np.zeros(said.shape), where=said > 0)
    return _ratio((here * precision).sum(-1), n_pos * (n_neg > 0))


METRICS = {
    "accuracy": _accuracy,
    "auroc": _auroc,
    "average_precision": _average_precision,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "iou": _iou,
    "mcc": _mcc,
    "precision": _precision,
    "recall": _recall,
}
