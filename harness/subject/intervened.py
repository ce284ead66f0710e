"""What interventions on a latent came to, as values that a journal can keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from harness.subject.calibrate_search import Calibration, Point
from harness.values import Failure, Latent, Pair, Place, Rise

__all__ = ["Intervened", "Intervener", "at_kl"]


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
        points = [[point.strength, _number(point.kl)] for point in self.calibration.points]
        kept = {"kl": _number(self.calibration.kl), "points": points}
        return {
            "calibration": {**asdict(self.calibration), **kept},
            "rises": [asdict(rise) for rise in self.rises],
            "change": asdict(self.change),
            "projected": asdict(self.projected),
            "select": [_told(pair) for pair in self.select],
            "score": [_told(pair) for pair in self.score],
        }

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
            tuple(map(_pair, found["select"])),
            tuple(map(_pair, found["score"])),
        )


class Intervener(Protocol):
    """Whoever can say what a latent does when it is changed; a run does it once a latent."""

    async def intervened(self, latent: Latent) -> Sequence[Intervened] | Failure:
        """What it does at each target of the task's settings, or why that cannot be told.

        Raises:
            UserError: the subject cannot be changed there.
            Drained: the run is stopping.
        """
        ...


def at_kl(found: Sequence[Intervened], kl: float) -> Intervened:
    """The one at a target in nats, which the task's settings have."""
    return next(one for one in found if one.calibration.target == kl)


def _told(pair: Pair) -> list[Any]:
    place = None if pair.place is None else [pair.place.store, pair.place.context, pair.place.start]
    return [pair.prompt, pair.clean, pair.steered, place, pair.quantile]


def _pair(told: Sequence[Any]) -> Pair:
    prompt, clean, steered, place, quantile = told
    return Pair(prompt, clean, steered, None if place is None else Place(*place), quantile)


def _rise(found: Mapping[str, Any]) -> Rise:
    rose, fell = (tuple((str(token), float(by)) for token, by in found[key]) for key in ("rose", "fell"))
    return Rise(found["text"], rose, fell)


def _number(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _float(value: float | None) -> float:
    return float("nan") if value is None else value
