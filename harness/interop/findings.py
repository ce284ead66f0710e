"""What was found out about latents, here or elsewhere, as values that other projects' formats are written from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "About",
    "AboutCoder",
    "Found",
    "Judged",
    "Score",
    "Section",
    "Told",
    "Window",
    "half_characters",
    "sections",
]

_LONE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Window:
    """A row of text with a latent's activation on each token.

    `quantile` is 1 (weakest) to 10 (strongest); None where the latent is silent or it is not known.
    """

    tokens: tuple[str, ...]
    values: tuple[float, ...]
    quantile: int | None = None

    @property
    def maximum(self) -> float:
        """The largest activation, 0 where the latent is silent."""
        return max(self.values, default=0.0)

    @property
    def text(self) -> str:
        """The text."""
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a scorer said of one window.

    `truth` is what was right; `label` what was said, None where nothing was (`failure` says why) or where a `value`
    that orders windows or `strengths` by token were given. `probability` is P(1). `marks` are the positions that were
    shown marked.
    """

    window: Window
    truth: bool
    label: bool | None = None
    probability: float | None = None
    value: float | None = None
    marks: tuple[int, ...] = ()
    strengths: tuple[float, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """One score of an explanation: by which scorer, of which kind, with which model; `figure` names its main figure.

    `figures` are all that are defined. `status` is not "ok" where there is no score.
    """

    scorer: str
    kind: str
    figure: str
    figures: Mapping[str, float]
    model: str | None = None
    judged: tuple[Judged, ...] = ()
    rung: str = "random"
    status: str = "ok"
    message: str = ""

    @property
    def value(self) -> float | None:
        """The main figure, None where it is not defined."""
        return self.figures.get(self.figure) if self.status == "ok" else None


@dataclass(frozen=True, slots=True)
class Told:
    """An explanation with its scores; `text` is None where there is none, which `status` tells the reason of.

    `explainer` is who wrote it, a name, and `model` the language model that did, None where none did or it is not
    known; `control` names the control, None for a real arm.
    """

    explainer: str
    text: str | None
    model: str | None = None
    control: str | None = None
    status: str = "ok"
    message: str = ""
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """One latent: windows, the strongest first and silent ones last, and what is told about it.

    `maximum` is its largest activation; `rate` the share of tokens that it fires on. `moments` are mean, variance,
    skewness and kurtosis (3 for a normal distribution) over all tokens. `histogram` counts activations in equal parts
    of the range from 0 to `maximum`. What is not known is None or empty.
    """

    coder: str
    latent: int
    told: tuple[Told, ...] = ()
    windows: tuple[Window, ...] = ()
    maximum: float | None = None
    rate: float | None = None
    moments: tuple[float, float, float, float] | None = None
    histogram: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AboutCoder:
    """A coder as other projects name it: `layer` and `set_name` make Neuronpedia's source, `<layer>-<set>`."""

    name: str
    hookpoint: str
    latents: int
    layer: int
    set_name: str
    path: str | None = None

    @property
    def source(self) -> str:
        """Neuronpedia's name of the source."""
        return f"{self.layer}-{self.set_name}"


@dataclass(frozen=True, slots=True)
class About:
    """What all findings have in common: the run, the subject model, its text, and who explained and judged.

    `model` is the subject's own name and `model_id` the name that Neuronpedia may know it by. `task` is the task as it
    was frozen; `created` the time of writing, ISO 8601 in UTC. `explainers` are the names of real arms, `scorers` kinds
    by name, and `rung` is that of the headline figures.
    """

    run: str
    model: str
    model_id: str
    dataset: str
    created: str
    coders: Mapping[str, AboutCoder]
    task: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    context: int = 0
    tokens: int = 0
    explainers: tuple[str, ...] = ()
    scorers: Mapping[str, str] = field(default_factory=dict)
    rung: str = "random"


@dataclass(frozen=True, slots=True)
class Section:
    """Windows of one quantile: their least and largest maximum, and their share among all windows."""

    low: float
    high: float
    share: float


def sections(windows: Sequence[Window]) -> dict[int, Section]:
    """The windows' quantiles, under which dashboards show windows together."""
    peaks: dict[int, list[float]] = {}
    for window in windows:
        if window.quantile is not None:
            peaks.setdefault(window.quantile, []).append(window.maximum)
    return {of: Section(min(some), max(some), len(some) / len(windows)) for of, some in peaks.items()}


def half_characters(text: str) -> str:
    """Text in which bytes of a character that a tokenizer cut in two are written `<0xE2>`, as SentencePiece does.

    Such bytes are no Unicode, which other projects' readers refuse. Other lone surrogates become U+FFFD.
    """
    return _LONE.sub(_shown, text) if not text.isascii() else text


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"<0x{code - 0xDC00:02X}>" if 0xDC80 <= code <= 0xDCFF else "\ufffd"
