"""Whether judges' probabilities mean what they say, over all of an arm's verdicts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.load import ScoreRow
from harness.metrics import MIN_LATENTS, Interval, calibration, ends
from harness.runs.arms import arm_label

__all__ = ["calibrations"]

COLUMNS = (
    *("explainer", "control", "arm", "scorer", "rung", "low", "high", "verdicts", "latents", "probability"),
    *("activating", "activating_low", "activating_high", "brier", "calibration_error"),
)

_Floats = NDArray[np.float64]


def calibrations(rows: Iterable[ScoreRow]) -> pd.DataFrame:
    """One row an arm, scorer, rung and tenth of the probability of being activating; scorers that give none have none.

    Columns `explainer, control, arm, scorer, rung`; `low, high`, the ends of the tenth; `verdicts` in it, of `latents`
    latents; their mean `probability`, and `activating`, the share of them that activates the latent, with
    `activating_low, activating_high`, its 95 % interval over latents, missing below 20 of them; and, the same in all
    tenths, the `brier` score and the `calibration_error` (`harness.metrics.calibration`) of all verdicts together, of
    examples one half activating.
    """
    found: defaultdict[tuple[Any, ...], list[tuple[_Floats, _Floats]]] = defaultdict(list)
    for row in rows:
        verdicts = row.verdicts
        if verdicts is None or row.status != "ok" or row.scoring.chance is not None:
            continue
        has = verdicts.answered & np.isfinite(verdicts.probability)
        if has.any():
            key = row.arm.explainer, row.arm.control, row.scoring.scorer, row.scoring.rung
            found[key].append((verdicts.truth[has].astype(np.float64), verdicts.probability[has].astype(np.float64)))
    table = [line for key, latents in found.items() for line in _lines(key, latents)]
    return pd.DataFrame(table, columns=list(COLUMNS))


def _interval(counts: _Floats, shares: _Floats) -> Interval | None:
    """The interval of a share of all verdicts where latents, with `counts` verdicts each, are the sample.

    The share is a ratio of two sums over latents: its standard error is the linearised one (Cochran 1977, section 6.4),
    with Student's t.
    """
    n, total = len(counts), counts.sum()
    if n < MIN_LATENTS:
        return None
    from scipy.special import stdtrit

    share = float(counts @ shares / total)
    error = np.sqrt(n / (n - 1) * np.square(counts * (shares - share)).sum()) / total
    reach = float(stdtrit(n - 1, 0.975) * error)
    return Interval(max(0.0, share - reach), min(1.0, share + reach))


def _lines(key: tuple[Any, ...], latents: list[tuple[_Floats, _Floats]]) -> list[dict[str, Any]]:
    explainer, control, scorer, rung = key
    whole = calibration(*(np.concatenate([pair[side] for pair in latents]) for side in (0, 1)))
    assert whole is not None
    owns = [calibration(*pair) for pair in latents]
    lines = []
    for one in whole.bins:
        inside = [(bin_.n, bin_.activating) for own in owns if own for bin_ in own.bins if bin_.low == one.low]
        low, high = ends(_interval(*np.array(inside, dtype=np.float64).T))
        lines.append(
            {
                "explainer": explainer,
                "control": control,
                "arm": arm_label(explainer, control),
                "scorer": scorer,
                "rung": rung,
                "low": one.low,
                "high": one.high,
                "verdicts": one.n,
                "latents": len(inside),
                "probability": one.probability,
                "activating": one.activating,
                "activating_low": low,
                "activating_high": high,
                "brier": whole.brier,
                "calibration_error": whole.error,
            }
        )
    return lines
