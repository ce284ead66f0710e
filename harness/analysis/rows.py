"""Rows and columns of a frame of scores, however its figures stand in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["FIGURE", "figure_of", "kept", "known", "mean_of", "where"]

# how columns of figures begin in frames that have no column of mappings
FIGURE = "metric_"


def where(frame: pd.DataFrame, **cells: Any) -> pd.DataFrame:
    """The rows in which each named column has its value, in their order, numbered anew."""
    kept = np.ones(len(frame), dtype=bool)
    for name, value in cells.items():
        kept &= np.asarray(frame[name] == value, dtype=bool)
    return frame.iloc[np.flatnonzero(kept)].reset_index(drop=True)


def figure_of(frame: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """A figure of each row of a frame of scores, NaN where there is none; also of scores that failed, as it stands."""
    if "metrics" not in frame.columns:
        column = FIGURE + metric
        return frame[column].to_numpy(np.float64) if column in frame.columns else np.full(len(frame), np.nan)
    told = [metrics.get(metric) if isinstance(metrics, Mapping) else None for metrics in frame["metrics"].tolist()]
    return np.array([np.nan if value is None else value for value in told], np.float64)


def known(frame: pd.DataFrame, name: str) -> tuple[NDArray[np.int64], list[Any]]:
    """A column as numbers, -1 where it is missing, and what they stand for in the order in which they first occur."""
    codes, values = pd.factorize(frame[name])
    return codes.astype(np.int64), list(values)


def kept(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Figures without those that are missing."""
    return values[~np.isnan(values)]


def mean_of(values: NDArray[np.float64]) -> float:
    """The mean of the figures that are there, NaN where there is none."""
    there = kept(values)
    return float(there.mean()) if len(there) else math.nan
