"""What people's ratings say: of arms, of latents, of how far raters agree, and of which scorers they bear out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness import metrics
from harness.analysis.correlations import FEW, correlations
from harness.analysis.load import Run
from harness.metrics.agreement import Agreement, agreement
from harness.metrics.intervals import Interval
from harness.rating.book import Answer, Asked, Book
from harness.rating.items import OPTIONS
from harness.runs.arms import arm_label

__all__ = ["ArmRating", "Borne", "LatentRating", "Results", "results"]

# a scorer's name has no blank, so that this is none
PEOPLE: Final = "human ratings"

_Arm = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class ArmRating:
    """An arm's mean rating over latents with its 95 % interval, None where it has none; `ratings` are all of them."""

    label: str
    control: bool
    mean: float
    interval: Interval | None
    latents: int
    ratings: int


@dataclass(frozen=True, slots=True)
class LatentRating:
    """One explanation's mean rating, 1 to 4: over its contexts, of each the mean over raters."""

    coder: str
    latent: int
    explainer: str | None
    control: str | None
    text: str
    mean: float
    ratings: int

    @property
    def label(self) -> str:
        """What a reader calls the arm."""
        return arm_label(self.explainer, self.control)


@dataclass(frozen=True, slots=True)
class Borne:
    """How a scorer's figure goes together with people's ratings: Spearman's correlation over rated explanations.

    `own` is over explainers' own arms and `every` with controls, each `(value, interval, explanations, latents)`.
    """

    scorer: str
    metric: str
    own: tuple[float | None, tuple[float, float] | None, int, int]
    every: tuple[float | None, tuple[float, float] | None, int, int]

    @property
    def few(self) -> bool:
        """Whether there are so few latents that little can be said."""
        return self.own[3] < FEW


@dataclass(frozen=True, slots=True)
class Results:
    """All that ratings say; `raters` are how many items each has rated, `skipped` how many answers were none."""

    raters: Mapping[str, int]
    skipped: int
    agreement: Agreement
    arms: tuple[ArmRating, ...]
    latents: tuple[LatentRating, ...]
    scorers: tuple[Borne, ...]


def results(run: Run, book: Book, scores: pd.DataFrame | None = None) -> Results:
    """The results of a run's ratings; `scores` are `Run.scores()` where they are at hand."""
    asked = book.items()
    rated = [a for a in book.answers() if a.item in asked and asked[a.item].kind == "rate"]
    given = [answer for answer in rated if answer.rating is not None]
    latents = _latents(given, asked)
    return Results(
        Counter(answer.rater for answer in given),
        len(rated) - len(given),
        agreement(_matrix(given), len(OPTIONS), seed=run.seed),
        _arms(latents, run.seed),
        latents,
        _scorers(run, latents, run.scores() if scores is None else scores),
    )


def _matrix(given: Sequence[Answer]) -> NDArray[np.float64]:
    """Ratings `[raters, items]`, NaN where there is none."""
    raters = {name: at for at, name in enumerate(dict.fromkeys(answer.rater for answer in given))}
    items = {item: at for at, item in enumerate(sorted({answer.item for answer in given}))}
    found = np.full((len(raters), len(items)), np.nan)
    for answer in given:
        found[raters[answer.rater], items[answer.item]] = answer.rating
    return found


def _latents(given: Sequence[Answer], asked: Mapping[str, Asked]) -> tuple[LatentRating, ...]:
    by_item: defaultdict[str, list[int]] = defaultdict(list)
    for answer in given:
        assert answer.rating is not None
        by_item[answer.item].append(answer.rating)
    means: defaultdict[tuple[str, int, _Arm, str], list[tuple[float, int]]] = defaultdict(list)
    for item, ratings in sorted(by_item.items()):
        one = asked[item]
        for arm in one.arms:
            means[one.coder, one.latent, arm, one.text].append((float(np.mean(ratings)), len(ratings)))
    found = [
        LatentRating(coder, latent, *arm, text, float(np.mean([mean for mean, _ in of])), sum(n for _, n in of))
        for (coder, latent, arm, text), of in means.items()
    ]
    return tuple(sorted(found, key=lambda one: (one.coder, one.latent, one.control is not None, one.label)))


def _arms(latents: Sequence[LatentRating], seed: int) -> tuple[ArmRating, ...]:
    by_arm: defaultdict[_Arm, list[LatentRating]] = defaultdict(list)
    for one in latents:
        by_arm[one.explainer, one.control].append(one)
    found = []
    for (explainer, control), some in by_arm.items():
        values = np.array([one.mean for one in some])
        ratings = sum(one.ratings for one in some)
        interval = metrics.mean_interval(values, seed=seed)
        label = arm_label(explainer, control)
        found.append(ArmRating(label, control is not None, float(values.mean()), interval, len(some), ratings))
    return tuple(sorted(found, key=lambda arm: (arm.control, -arm.mean)))


def _scorers(run: Run, latents: Sequence[LatentRating], scores: pd.DataFrame) -> tuple[Borne, ...]:
    figures = {PEOPLE: "rating", **{name: run.metric_of(name) for name in run.scorers}}
    both = pd.concat([scores, _frame(run, latents)], ignore_index=True) if latents else scores
    own, every = (
        {row["b"]: row for row in correlations(both, figures, rung=run.rung, controls=with_controls).to_dict("records")
         if row["a"] == PEOPLE}
        for with_controls in (False, True)
    )  # fmt: skip
    return tuple(Borne(name, figures[name], _told(own[name]), _told(every[name])) for name in run.scorers)


def _frame(run: Run, latents: Sequence[LatentRating]) -> pd.DataFrame:
    """Ratings as scores of one more scorer."""
    return pd.DataFrame(
        {
            "run": run.name,
            "coder": one.coder,
            "latent": one.latent,
            "explainer": one.explainer,
            "control": one.control,
            "scorer": PEOPLE,
            "rung": run.rung,
            "status": "ok",
            "metrics": {"rating": one.mean},
        }
        for one in latents
    )


def _told(row: Mapping[Any, Any]) -> tuple[float | None, tuple[float, float] | None, int, int]:
    value, low, high = (row[name] for name in ("spearman", "spearman_low", "spearman_high"))
    interval = None if np.isnan(low) else (float(low), float(high))
    return None if np.isnan(value) else float(value), interval, int(row["n"]), int(row["latents"])
