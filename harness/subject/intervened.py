"""What interventions on a latent came to, as values that a journal can keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.subject.calibrate_search import Calibration, Point
from harness.values import Pair, Rise

__all__ = ["Intervened"]


@dataclass(frozen=True, slots=True)
class Intervened:
    """What one latent does at one strength.

    `calibration` says which strength and how it was found, on the prompts to score with. `rises` are of the prompts to
    explain from; `change` is of the mean logits over windows drawn whatever fires in them, and `projected` of the
    latent's direction by itself. `select` and `score` are continuations.
    """

    calibration: Calibration
    rises: tuple[Rise, ...]
    change: Rise
    projected: Rise
    select: tuple[Pair, ...]
    score: tuple[Pair, ...]

    def as_json(self) -> dict[str, Any]:
        """A JSON-able value that `from_json` reads; a KL that is no number is None."""
        found = asdict(self)
        points = [[point.strength, _number(point.kl)] for point in self.calibration.points]
        return {**found, "calibration": {**found["calibration"], "kl": _number(self.calibration.kl), "points": points}}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Intervened:
        """What `as_json` gave."""
        points = tuple(Point(strength, _float(kl)) for strength, kl in found["calibration"]["points"])
        told = {**found["calibration"], "kl": _float(found["calibration"]["kl"]), "points": points}
        return cls(
            Calibration(**told),
            tuple(map(_rise, found["rises"])),
            _rise(found["change"]),
            _rise(found["projected"]),
            tuple(Pair(**pair) for pair in found["select"]),
            tuple(Pair(**pair) for pair in found["score"]),
        )


def _rise(found: Mapping[str, Any]) -> Rise:
    rose, fell = (tuple((str(token), float(by)) for token, by in found[key]) for key in ("rose", "fell"))
    return Rise(found["text"], rose, fell)


def _number(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _float(value: float | None) -> float:
    return float("nan") if value is None else value
