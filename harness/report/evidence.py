"""What a report shows of one latent, as frozen values: explanations, scores, examples with every verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.runs.arms import arm_label
from harness.values import Latent, Status

__all__ = [
    "Arm",
    "Change",
    "Exchange",
    "ExplanationLine",
    "LatentReport",
    "PairLine",
    "Profile",
    "ScoreLine",
    "ScoredExample",
    "ShownExample",
    "Trace",
    "TraceCall",
    "TraceStep",
    "VerdictLine",
]


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
class PairLine:
    """How the subject went on with a prompt, without and with an intervention on the latent, and what was said of it.

    `quantile` is that of the prompt's window. A verdict has a `value`, in nats, or says whether the answer is `right`.
    """

    prompt: str
    clean: str
    steered: str
    quantile: int | None = None
    verdicts: tuple[VerdictLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A latent amplified until the subject's next tokens are `target` nats away: its strength, and pairs.

    `kl` is what was reached, None where it is no number; `status` says how the strength was found
    (`harness.subject.calibrate_search`).
    """

    target: float
    kl: float | None
    strength: float
    status: str
    pairs: tuple[PairLine, ...]


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
    changes: tuple[Change, ...] = ()
