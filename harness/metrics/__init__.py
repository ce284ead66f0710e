"""Verdicts to figures: pure NumPy functions for one latent's scores, their intervals and their comparison."""

from __future__ import annotations

from harness.metrics.base_rate import BaseRateFigures, Estimate, at_base_rate
from harness.metrics.calibration import Bin, Calibration, calibration
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
from harness.metrics.correlation import Correlation, CorrelationKind, correlation
from harness.metrics.intervals import MIN_LATENTS, Interval, ends, mean_interval, median_interval
from harness.metrics.paired import (
    Comparison,
    Outcome,
    compare_paired,
    detectable_difference,
    holm,
    latents_needed,
    sign_flip,
)
from harness.metrics.regression import Regression, regression
from harness.metrics.reliability import SPLITS, Reliability, halves, spearman_brown, split_half
from harness.metrics.resampling import own_interval, permute_truth, permuted_figures
from harness.metrics.shares import difference_interval, jeffreys
from harness.metrics.trivial import best_trivial, trivial
from harness.metrics.unpaired import unpaired_interval

__all__ = [
    "CHANCE",
    "METRICS",
    "MIN_LATENTS",
    "SPLITS",
    "WORST",
    "BaseRateFigures",
    "Bin",
    "Calibration",
    "Comparison",
    "Correlation",
    "CorrelationKind",
    "Estimate",
    "Figures",
    "Interval",
    "Outcome",
    "Regression",
    "Reliability",
    "Votes",
    "at_base_rate",
    "auroc",
    "average_precision",
    "best_trivial",
    "calibration",
    "classification",
    "compare_paired",
    "correlation",
    "detectable_difference",
    "difference_interval",
    "ends",
    "figure",
    "halves",
    "holm",
    "jeffreys",
    "latents_needed",
    "mean_interval",
    "median_interval",
    "own_interval",
    "permute_truth",
    "permuted_figures",
    "regression",
    "sign_flip",
    "spearman_brown",
    "split_half",
    "trivial",
    "unpaired_interval",
]
