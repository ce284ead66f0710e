"""What a report shows, as frozen values: everything the page needs and nothing that it would have to look up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.analysis.spending import SpendingLine
from harness.judges.sheet import Sheet
from harness.rating.results import Results
from harness.report.evidence import Arm, LatentReport
from harness.report.plots import Plot
from harness.values import FailureStatus

__all__ = [
    "CoderLine",
    "Comparison",
    "Curve",
    "CurvePoint",
    "FailureCount",
    "Grid",
    "Header",
    "JudgeLine",
    "Lift",
    "Outcome",
    "PopulationLine",
    "Primary",
    "ReportData",
    "RoleLine",
    "ScorerLine",
    "SummaryRow",
]

Outcome = Literal["differ", "equivalent", "inconclusive"]


@dataclass(frozen=True, slots=True)
class CoderLine:
    """A coder of the run; `source` says where it came from, with its revision.

    `fvu` is the fraction of variance unexplained and `l0` the mean number of active latents a token, None where they
    were not measured.
    """

    name: str
    hookpoint: str
    latents: int | None
    source: str = ""
    fvu: float | None = None
    l0: float | None = None


@dataclass(frozen=True, slots=True)
class RoleLine:
    """Who explains or judges: an explainer's or scorer's name, kind, model and prompt.

    `prompt` is the variant's name and `digest` the hash of its file, both empty where nothing is rendered.
    """

    role: Literal["explainer", "scorer"]
    name: str
    kind: str
    model: str
    model_free: bool
    prompt: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How often one stage failed in one way, such as the verdicts of a scorer."""

    stage: str
    status: FailureStatus
    count: int


@dataclass(frozen=True, slots=True)
class Primary:
    """The figure that arms are ranked by, on a rung; differences below `margin` do not matter."""

    scorer: str
    metric: str
    margin: float
    rung: str = "random"


@dataclass(frozen=True, slots=True)
class JudgeLine:
    """A scorer whose model is asked to judge, with that judge's sheet, None where there is none of just this judge."""

    scorer: str
    kind: str
    model: str
    sheet: Sheet | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """What was run, on what, with which parts; `counts` are named numbers, shown in their order."""

    task: str
    subject: str
    corpus: str
    seed: int
    coders: tuple[CoderLine, ...]
    roles: tuple[RoleLine, ...]
    primary: Primary
    versions: Mapping[str, str]
    counts: Mapping[str, int]
    failures: tuple[FailureCount, ...] = ()
    spending: tuple[SpendingLine, ...] = ()
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    judges: tuple[JudgeLine, ...] = ()


@dataclass(frozen=True, slots=True)
class ScorerLine:
    """A scorer with its headline metric and that metric's value by chance (0.5, or 0 for correlations)."""

    name: str
    metric: str
    chance: float


@dataclass(frozen=True, slots=True)
class Lift:
    """An arm's mean difference over a control, with its 95 % interval where there is one.

    It is paired by latent, but over a population of random latents.
    """

    control: str
    difference: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class PopulationLine:
    """How often latents fire: the share of windows, as (median, lower quartile, upper quartile) over `latents` latents.

    `control` is None for the chosen latents of the task's own coders, that the populations are matched to.
    """

    control: str | None
    latents: int
    rates: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One arm under one scorer on a rung.

    `mean` counts failures at chance and is what arms are ranked by; `scored` is the mean over the latents where all
    compared arms have a score; `worst` the one with every failure at the metric's lowest value. `interval` is the
    95 % one of `mean`. `n` counts latents, `failed` those of them without a score. `permuted` is the exact null where
    it was worked out: the mean with the truth permuted within each latent, and the middle 95 % of permutations.
    """

    arm: Arm
    scorer: str
    metric: str
    mean: float | None
    interval: tuple[float, float] | None
    n: int
    failed: int
    scored: float | None = None
    worst: float | None = None
    rung: str = "random"
    lifts: tuple[Lift, ...] = ()
    permuted: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms compared under one scorer, paired by latent: `first` minus `second`.

    `difference` and `p` are None where the arms share no latent; `p` is the sign-flip permutation test's, after Holm.
    `detectable` is the smallest difference found at 80 % power, `needed` the number of latents that the margin needs.
    """

    first: Arm
    second: Arm
    scorer: str
    metric: str
    outcome: Outcome
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    n: int
    margin: float
    detectable: float | None = None
    needed: int | None = None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The share of verdicts that are right at one quantile, or on non-activating examples (`quantile` None).

    `share` is the mean over latents of each one's own share, `interval` that mean's 95 % one; `n` counts verdicts,
    failures left out.
    """

    quantile: int | None
    share: float
    n: int
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """How often an arm's verdicts under one scorer are right, from weak to strong activations."""

    arm: Arm
    scorer: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A small table of text in a section of the report, with figures; the first column names the rows."""

    section: Literal["scorers", "costs"]
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    plots: tuple[Plot, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """A whole report.

    `arms` and `scorers` are in the order in which they are shown; `latents` in the run's own order. `populations` are
    empty where the task has none, `ratings` None where nobody has rated. `scores` are the figures that are shown of all
    latents by arm and scorer's name, None where `latents` has them.
    """

    header: Header
    arms: tuple[Arm, ...]
    scorers: tuple[ScorerLine, ...]
    summary: tuple[SummaryRow, ...]
    comparisons: tuple[Comparison, ...]
    curves: tuple[Curve, ...]
    latents: tuple[LatentReport, ...]
    populations: tuple[PopulationLine, ...] = ()
    ratings: Results | None = None
    grids: tuple[Grid, ...] = ()
    scores: Mapping[tuple[Arm, str], NDArray[np.float64]] | None = None
