"""Verdicts to figures: pure NumPy functions for one latent's scores, their intervals and their comparison."""

from __future__ import annotations

from harness.metrics.base_rate import BaseRateFigures, Estimate, at_base_rate
from harness.metrics.classification import (
    CHANCE,
    METRICS,
    WORST,
    Figures,
    Votes,
    auroc,
    average_precision,
    classification,
    figure,
)
from harness.metrics.intervals import MIN_LATENTS, Interval, mean_interval
from harness.metrics.paired import (
    Comparison,
    Outcome,
    compare_paired,
    detectable_difference,
    holm,
    latents_needed,
    sign_flip,
)
from harness.metrics.resampling import own_interval, permute_truth, permuted_figures
from harness.metrics.shares import difference_interval, jeffreys

__all__ = [
    "CHANCE",
    "METRICS",
    "MIN_LATENTS",
    "WORST",
    "BaseRateFigures",
    "Comparison",
    "Estimate",
    "Figures",
    "Interval",
    "Outcome",
    "Votes",
    "at_base_rate",
    "auroc",
    "average_precision",
    "classification",
    "compare_paired",
    "detectable_difference",
    "difference_interval",
    "figure",
    "holm",
    "jeffreys",
    "latents_needed",
    "mean_interval",
    "own_interval",
    "permute_truth",
    "permuted_figures",
    "sign_flip",
]
