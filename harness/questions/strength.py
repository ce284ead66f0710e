"""Activations as whole numbers from 0 to 10: what an explainer is shown and a simulation is compared with."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["STRONGEST", "Rounding", "levels"]

STRONGEST: Final = 10

Rounding = Literal["floor", "ceil"]


def levels(activations: ArrayLike, maximum: float, rounding: Rounding = "floor") -> NDArray[np.int64]:
    """Activations as tenths of the latent's maximum, 0 to 10: `10 a / maximum`, rounded down or up.

    Rounded down, a faint activation is 0 (paper section 3); rounded up, 0 is silence alone (delphi since 2025).
    Exact for activations and a maximum of float32 or less: `10 a` has 28 bits at most, so a quotient in float64 never
    reaches a whole number that the true one does not.

    Args:
        activations: of any shape; what is negative counts as 0.
        maximum: the latent's largest activation; at 0 or below it, all are 0. Larger activations are 10.
        rounding: `floor` or `ceil`.

    Returns:
        int64 of the same shape, 0 to 10.
    """
    values = np.asarray(activations, np.float64)
    if maximum <= 0:
        return np.zeros(values.shape, np.int64)
    tenths = STRONGEST * values / maximum
    whole = np.floor(tenths) if rounding == "floor" else np.ceil(tenths)
    return np.clip(whole, 0, STRONGEST).astype(np.int64)
