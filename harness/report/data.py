"""What a report shows, as frozen values: everything the page needs and nothing that it would have to look up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.analysis.spending import SpendingLine
from harness.judges.sheet import Sheet
from harness.rating.results import Results
from harness.report.plots import Plot
from harness.runs.units import arm_label
from harness.values import FailureStatus, Latent, Status

__all__ = [
    "Arm",
    "CoderLine",
    "Comparison",
    "Curve",
    "CurvePoint",
    "Exchange",
    "ExplanationLine",
    "FailureCount",
    "Grid",
    "Header",
    "JudgeLine",
    "LatentReport",
    "Lift",
    "Outcome",
    "PopulationLine",
    "Primary",
    "Profile",
    "ReportData",
    "RoleLine",
    "ScoreLine",
    "ScoredExample",
    "ScorerLine",
    "ShownExample",
    "SummaryRow",
    "Trace",
    "TraceCall",
    "TraceStep",
    "VerdictLine",
]

Outcome = Literal["differ", "equivalent", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Arm:
    """An explainer, or a control made from it; `control` is None for a real arm.

    `explainer` is None for a control that needs none.
    """

    explainer: str | None
    control: str | None = None

    @property
    def label(self) -> str:
        """What a reader calls the arm."""
        return arm_label(self.explainer, self.control)


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
class ExplanationLine:
    """One arm's explanation of a latent, or why there is none; `text` is None where it failed or was withheld.

    `partner` is the latent, of the same coder, whose explanation this is in the control `shuffled`.
    """

    arm: Arm
    text: str | None
    status: Status
    message: str = ""
    partner: int | None = None


@dataclass(frozen=True, slots=True)
class TraceCall:
    """A tool that an explainer called, with what it was given and what came back; `failed` where that is an error."""

    name: str
    arguments: str
    result: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One turn of an explainer that works in steps: what it said, what it called, the tokens that it took."""

    said: str
    calls: tuple[TraceCall, ...]
    tokens: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """How an arm came to its explanation, step by step."""

    arm: Arm
    steps: tuple[TraceStep, ...]


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """One score of a latent: the metrics that are defined, or why there are none.

    `interval` is the 95 % one of the scorer's headline metric, over examples. `failed` counts examples without a
    verdict.
    """

    arm: Arm
    scorer: str
    rung: str
    status: Status
    metrics: Mapping[str, float]
    n_pos: int = 0
    n_neg: int = 0
    failed: int = 0
    interval: tuple[float, float] | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ShownExample:
    """An example that explainers saw: its token strings and activations, float32 `[positions]`."""

    pieces: tuple[str, ...]
    activations: NDArray[np.float32]
    quantile: int | None = None


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """What a scorer said on one example for one arm; where it failed `failure` says how.

    It says a `label`, 0 or 1, with `probability`, P(1) in [0, 1], where the reply tells it; or a `value` that orders
    examples; or `strengths` `[positions]`, 0 to 10, NaN where there is none; or, where no explanation is judged,
    whether the answer is `right`.
    """

    arm: Arm
    scorer: str
    label: int | None
    probability: float | None = None
    failure: str = ""
    value: float | None = None
    strengths: tuple[float, ...] = ()
    right: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ScoredExample:
    """An example that scorers judged: tokens, activations, truth, and every verdict.

    `quantile` is None where the latent is silent (`truth` False). `marks` gives for a scorer that marks tokens the
    positions it marked. Of a text that was written by an explanation the rung is `written`, and `truth` what it was
    meant to be; its pieces are parted at active tokens alone.
    """

    pieces: tuple[str, ...]
    activations: NDArray[np.float32]
    truth: bool
    quantile: int | None
    rung: str
    verdicts: tuple[VerdictLine, ...]
    marks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a latent does in all of the text: how often in each twentieth of its activations, and on which tokens.

    `tokens` are the most common ones: the token, its firings and its largest activation; of `firings` in all.
    """

    histogram: tuple[int, ...]
    tokens: tuple[tuple[str, int, float], ...]
    firings: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a model was sent on behalf of an arm, and what it answered; `scorer` is empty where it explained."""

    arm: Arm
    scorer: str
    prompt: str
    reply: str


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
class LatentReport:
    """One latent with everything that was found out about it.

    `status` is not "ok" where the latent could not be asked about at all. `maximum` is its largest activation in the
    store, `firing_rate` the share of windows in which it fires; both are None where there is no store to read, the rate
    also where the store's records were selected. Of `exchanges` there is one for each explanation, and the first for
    each score, of real arms.
    """

    latent: Latent
    hookpoint: str
    maximum: float | None
    explanations: tuple[ExplanationLine, ...]
    scores: tuple[ScoreLine, ...]
    shown: tuple[ShownExample, ...]
    scored: tuple[ScoredExample, ...]
    firing_rate: float | None = None
    status: Status = "ok"
    traces: tuple[Trace, ...] = ()
    profile: Profile | None = None
    exchanges: tuple[Exchange, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """A whole report.

    `arms` and `scorers` are in the order in which they are shown; `latents` in the run's own order. `populations` are
    empty where the task has none, `ratings` None where nobody has rated.
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
