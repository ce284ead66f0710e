"""What of a table or a journal is a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

__all__ = ["finite", "is_number", "pair"]


def is_number(value: Any) -> bool:
    """Whether a cell holds a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def finite(value: Any) -> float | None:
    """The number in a cell, None where there is none."""
    return float(value) if is_number(value) else None


def pair(row: Mapping[Any, Any], low: str, high: str) -> tuple[float, float] | None:
    """The interval in two columns, None where there is none."""
    ends = finite(row[low]), finite(row[high])
    return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
