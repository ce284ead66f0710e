"""The rows of a frame in which columns have given values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["where"]


def where(frame: pd.DataFrame, **cells: Any) -> pd.DataFrame:
    """The rows in which each named column has its value, in their order, numbered anew."""
    kept = np.ones(len(frame), dtype=bool)
    for name, value in cells.items():
        kept &= np.array([cell == value for cell in frame[name].tolist()], dtype=bool)
    return frame.iloc[np.flatnonzero(kept)].reset_index(drop=True)
