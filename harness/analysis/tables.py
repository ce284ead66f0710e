"""Tables of a run's scores: one row an arm and scorer with intervals and lifts, and one row a latent.

A frame of scores has one row a score: `run, coder, hookpoint, latent, explainer, control, scorer, scorer_model,
prompt, rung, status, metrics, n_pos, n_neg, failed`. `metrics` is a mapping of figures, None where one is not
defined; `n_pos` and `n_neg` count the examples asked about, `failed` those of them without a verdict. An arm is
(run, explainer, control); `control` is missing for real arms and `explainer` for controls that need none. A
latent whose explanation failed has score rows with the explanation's status: what has no row was not reached yet.

**Failures at chance.** Arms are ranked by the mean in which what has no score counts as a fair coin's (0.5, or 0
for correlations): a failed score wholly, a score with failed verdicts by their share, and a figure that the
verdicts left undefined (precision where nothing was called activating). A latent with too few examples is
counted and in no mean, as no arm could be asked about it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import UserError
from harness.metrics import (
    CHANCE,
    METRICS,
    WORST,
    Interval,
    best_trivial,
    mean_interval,
    median_interval,
    trivial,
    unpaired_interval,
)
from harness.runs.arms import NO_EXPLANATION, arm_label
from harness.task import POPULATIONS
from harness.values import FailureStatus

__all__ = ["Arm", "Score", "ScoreTable", "control_of", "latent_table", "score_table", "scorers_with", "summary"]

Floats = NDArray[np.float64]
TOO_FEW = "too_few_examples"


class Arm(NamedTuple):
    """One explainer or control of one run; `control` is None for a real arm."""

    run: str | None
    explainer: str | None
    control: str | None

    @property
    def label(self) -> str:
        """The arm's name in a table: `mini`, `mini (shuffled)` or `none`."""
        return arm_label(self.explainer, self.control)


class Score(NamedTuple):
    """One row of a frame of scores, missing cells None."""

    run: str | None
    coder: str
    latent: int
    explainer: str | None
    control: str | None
    scorer: str
    scorer_model: str | None
    prompt: str | None
    rung: str
    status: str
    metrics: Mapping[str, Any] | None
    n_pos: int | None
    n_neg: int | None
    failed: int | None

    @property
    def arm(self) -> Arm:
        """The arm that this is a score of."""
        return Arm(self.run, self.explainer, self.control)

    def figure(self, metric: str) -> float:
        """A figure, NaN where the score failed or the figure is not defined."""
        value = (self.metrics or {}).get(metric) if self.status == "ok" else None
        return math.nan if value is None else float(value)

    def filled(self, metric: str, level: float) -> float:
        """The figure with what failed at a level; NaN where there were too few examples to ask about."""
        if self.status == TOO_FEW:
            return math.nan
        value = self.figure(metric)
        if math.isnan(value):
            return level
        share = (self.failed or 0) / max(1, (self.n_pos or 0) + (self.n_neg or 0))
        return (1 - share) * value + share * level


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """One scorer's figure for every latent and arm, on one rung.

    `latents` are (coder, index); the matrices are `[latents, arms]`: `present` where there is a score or a
    failure, `value` NaN where there is no figure, `at_chance` and `worst` with failures filled in, NaN where
    there is nothing to fill (not reached, or too few examples). `scores` are each arm's scores, `metric` the figure.
    """

    arms: tuple[Arm, ...]
    latents: tuple[tuple[str, int], ...]
    value: Floats
    at_chance: Floats
    worst: Floats
    scores: tuple[tuple[Score, ...], ...]
    metric: str

    def common(self) -> NDArray[np.bool_]:
        """The latents on which all compared arms have a figure, `[latents]`.

        Compared are, coder by coder, the arms that have any figure there: a population of its own (a random
        coder) does not empty the others'.
        """
        coders = np.array([coder for coder, _ in self.latents], dtype=object)
        has = ~np.isnan(self.value)
        shared = np.zeros(len(self.latents), dtype=bool)
        for coder in set(coders.tolist()):
            of = coders == coder
            arms = has[of].any(axis=0)
            shared[of] = has[of][:, arms].all(axis=1) & arms.any()
        return shared

    def pair(self, a: Arm, b: Arm) -> tuple[Floats, Floats]:
        """Two arms' figures on the latents that both have, failures at chance."""
        first, second = (self.at_chance[:, self.arms.index(arm)] for arm in (a, b))
        both = ~np.isnan(first) & ~np.isnan(second)
        return first[both], second[both]

    def ranked(self) -> tuple[Arm, ...]:
        """Real arms, then controls, each from the highest mean with failures at chance to the lowest."""

        def key(arm: Arm) -> tuple[bool, float]:
            mean = _mean(self.at_chance[:, self.arms.index(arm)])
            return arm.control is not None, math.inf if math.isnan(mean) else -mean

        return tuple(sorted(self.arms, key=key))


def scorers_with(scores: pd.DataFrame, metric: str, rung: str = "random") -> list[str]:
    """The scorers of a frame that have a metric on a rung, in order of appearance; those that only failed count.

    Raises:
        UserError: the metric is unknown, or no scorer has it on the rung.
    """
    return list(_by_scorer(scores, metric, rung))


def score_table(scores: pd.DataFrame, metric: str, scorer: str, rung: str = "random") -> ScoreTable:
    """One scorer's figures as matrices of latents and arms.

    Raises:
        UserError: the metric is unknown, or the scorer has no scores or not that metric on the rung.
        ValueError: an arm has two scores for one latent.
    """
    return _table(_by_scorer(scores, metric, rung, scorer)[scorer], metric)


def summary(
    scores: pd.DataFrame, metric: str, scorer: str | None = None, rung: str = "random", seed: int = 0
) -> pd.DataFrame:
    """Arms beside one another: one row an arm and scorer, real arms first, highest mean first.

    Columns:

    - `run, explainer, control, arm, scorer, scorer_model, prompt`;
    - `latents` reached, `ok` with a score, `undefined` of these without this figure, one count for each failure
      status, `failed_verdicts` within scores;
    - `mean` over the `common` latents where all compared arms have the figure;
    - `mean_at_chance`, what arms are ranked by, and `worst`, the mean with failures at 0 (not for correlations);
    - `median, q25, q75` of the arm's own figures, the median with `median_low, median_high` (`median_interval`);
    - `trivial`, what the best of the trivial answers (always, never, as often as it is) gets on these examples, a mean
      over latents, missing for figures of strengths and of choices;
    - for every control, `lift_<control>`: the paired difference to it, failures at chance; over a population of
      random latents the unpaired one, as it has latents of its own.

    Means and lifts have `_low` and `_high`, a 95 % BCa interval over latents, missing below 20 latents.

    Raises:
        UserError: the metric is unknown, or the scorer or every scorer lacks it on the rung.
        ValueError: an arm has two scores for one latent.
    """
    rows: list[dict[str, Any]] = []
    for name, group in _by_scorer(scores, metric, rung, scorer).items():
        table = _table(group, metric)
        rows += [_arm_row(table, arm, name, seed) for arm in table.ranked()]
    return pd.DataFrame(rows)


def latent_table(explanations: pd.DataFrame, scores: pd.DataFrame, metric: str, rung: str = "random") -> pd.DataFrame:
    """Latents with their explanations and scores: one row a latent and real arm.

    Columns `run, coder, hookpoint, latent, explainer, explanation, status`, then for each scorer one of its name
    with the figure, and `<scorer>_<control>` for the controls on the same latents; missing where there is no figure.

    Raises:
        UserError: the metric is unknown, or no scorer has it on the rung.
        ValueError: an arm has two scores for one latent.
    """
    kept = ["run", "coder", "hookpoint", "latent", "explainer", "text", "status"]
    table = explanations.loc[explanations["control"].isna(), kept].reset_index(drop=True)
    table = table.set_axis([*kept[:5], "explanation", "status"], axis=1)
    for scorer, group in _by_scorer(scores, metric, rung).items():
        figures = _table(group, metric)
        place = {latent: row for row, latent in enumerate(figures.latents)}
        rows = [place.get((str(c), int(i))) for c, i in zip(table["coder"], table["latent"], strict=True)]
        runs = [None if _missing(run) else str(run) for run in table["run"]]
        arms = [Arm(run, str(name), None) for run, name in zip(runs, table["explainer"], strict=True)]
        paired = [control for control in _controls(figures.arms) if control not in POPULATIONS]
        for control in (None, *paired):
            beside = [arm if control is None else control_of(figures.arms, arm, control) for arm in arms]
            column = scorer if control is None else f"{scorer}_{control}"
            table[column] = [_cell(figures, row, arm) for row, arm in zip(rows, beside, strict=True)]
    return table


def control_of(arms: Sequence[Arm], arm: Arm, control: str) -> Arm | None:
    """The arm that is this control for an arm, made from its explainer or from none; None where there is none."""
    for explainer in (arm.explainer, None, control):
        if Arm(arm.run, explainer, control) in arms:
            return Arm(arm.run, explainer, control)
    return None


def _by_scorer(frame: pd.DataFrame, metric: str, rung: str, only: str | None = None) -> dict[str, list[Score]]:
    """The scores on a rung of each scorer that has the metric, or of one scorer, which must."""
    if metric not in CHANCE:
        raise UserError(f'there is no metric "{metric}"; known: {", ".join(CHANCE)}')
    cells = ([None if _missing(cell) else cell for cell in frame[name].tolist()] for name in Score._fields)
    every = [Score(*row) for row in zip(*cells, strict=True)]
    groups: dict[str, list[Score]] = {}
    for score in every:
        if score.rung == rung:
            groups.setdefault(score.scorer, []).append(score)
    if not groups:
        rungs = ", ".join(dict.fromkeys(score.rung for score in every)) or "none"
        raise UserError(f'there are no scores on rung "{rung}"; rungs with scores: {rungs}')
    found = {scorer: group for scorer, group in groups.items() if _has(group, metric)}
    if not found:
        raise UserError(f'no scorer has the metric "{metric}" on rung "{rung}"; scorers there: {", ".join(groups)}')
    if only is not None and only not in found:
        raise UserError(f'scorer "{only}" has no metric "{metric}" on rung "{rung}"; with it: {", ".join(found)}')
    return found if only is None else {only: found[only]}


def _has(scores: Sequence[Score], metric: str) -> bool:
    ok = [score for score in scores if score.status == "ok"]
    return not ok or any(not math.isnan(score.figure(metric)) for score in ok)


def _table(scores: Sequence[Score], metric: str) -> ScoreTable:
    arms: dict[Arm, list[Score]] = {}
    for score in scores:
        arms.setdefault(score.arm, []).append(score)
    latents = sorted({(score.coder, score.latent) for score in scores})
    place = {latent: row for row, latent in enumerate(latents)}
    chance = _chance(scores, metric)
    value, at_chance, worst = (np.full((len(latents), len(arms)), np.nan) for _ in range(3))
    for column, (arm, group) in enumerate(arms.items()):
        where = [place[score.coder, score.latent] for score in group]
        if len(set(where)) != len(where):
            raise ValueError(f'arm "{arm.label}" has two scores of "{group[0].scorer}" for one latent')
        value[where, column] = [score.figure(metric) for score in group]
        at_chance[where, column] = [score.filled(metric, chance) for score in group]
        worst[where, column] = [score.filled(metric, WORST.get(metric, math.nan)) for score in group]
    return ScoreTable(tuple(arms), tuple(latents), value, at_chance, worst, tuple(map(tuple, arms.values())), metric)


def _chance(scores: Sequence[Score], metric: str) -> float:
    """What the figure is by guessing: as the scorer says it beside its figures, else that of one half activating."""
    said = ((score.metrics or {}).get("chance") for score in scores)
    return next((float(value) for value in said if value is not None), CHANCE[metric])


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _mean(values: Floats) -> float:
    kept = _kept(values)
    return float(kept.mean()) if len(kept) else math.nan


def _with_interval(name: str, values: Floats, seed: int) -> dict[str, float]:
    kept = _kept(values)
    return {name: _mean(kept), **_ends(name, mean_interval(kept, seed=seed))}


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    low, high = (math.nan, math.nan) if interval is None else (interval.low, interval.high)
    return {f"{name}_low": low, f"{name}_high": high}


def _kept(values: Floats) -> Floats:
    return values[~np.isnan(values)]


def _trivial(scores: Sequence[Score], metric: str) -> float:
    """The mean over an arm's scores of what the best trivial judge gets on the same examples."""
    if metric not in METRICS:
        return math.nan
    sizes = Counter((score.n_pos or 0, score.n_neg or 0) for score in scores if not _chooses(score))
    found = {size: best_trivial(trivial(*size), metric) for size in sizes if min(size) > 0}
    known = [(value, sizes[size]) for size, value in found.items() if value is not None]
    whole = sum(times for _, times in known)
    return sum(value * times for value, times in known) / whole if whole else math.nan


def _chooses(score: Score) -> bool:
    """Whether the figure is of choices among several, of which chance is told with it."""
    return (score.metrics or {}).get("chance") is not None


def _arm_row(table: ScoreTable, arm: Arm, scorer: str, seed: int) -> dict[str, Any]:
    column = table.arms.index(arm)
    scores, value = table.scores[column], table.value[:, column]
    shared = table.common() & ~np.isnan(value)
    own = value[~np.isnan(value)]
    statuses = Counter(score.status for score in scores)
    quartiles = np.quantile(own, [0.5, 0.25, 0.75]).tolist() if len(own) else [math.nan] * 3
    row: dict[str, Any] = {
        **arm._asdict(),
        "arm": arm.label,
        "scorer": scorer,
        "scorer_model": _only([score.scorer_model for score in scores]),
        "prompt": _only([score.prompt for score in scores]),
        "latents": len(scores),
        "ok": statuses["ok"],
        "undefined": statuses["ok"] - len(own),
        **{status: statuses[status] for status in get_args(FailureStatus)},
        "failed_verdicts": sum(score.failed or 0 for score in scores),
        "common": int(shared.sum()),
        **_with_interval("mean", value[shared], seed),
        **_with_interval("mean_at_chance", table.at_chance[:, column], seed),
        "worst": _mean(table.worst[:, column]),
        **dict(zip(("median", "q25", "q75"), quartiles, strict=True)),
        **_ends("median", median_interval(own)),
        "trivial": _trivial(scores, table.metric),
    }
    for control in _controls(table.arms):
        row |= _lift(table, arm, control, seed)
    return row


def _lift(table: ScoreTable, arm: Arm, control: str, seed: int) -> dict[str, float]:
    name = f"lift_{control}"
    other = None if arm.control == control else control_of(table.arms, arm, control)
    if other is None or (control in POPULATIONS and arm.control not in (None, NO_EXPLANATION)):
        return _with_interval(name, np.empty(0), seed)
    if control in POPULATIONS:
        a, b = (_kept(table.at_chance[:, table.arms.index(one)]) for one in (arm, other))
        return {name: _mean(a) - _mean(b), **_ends(name, unpaired_interval(a, b, seed=seed))}
    a, b = table.pair(arm, other)
    return _with_interval(name, a - b, seed)


def _controls(arms: Sequence[Arm]) -> list[str]:
    return list(dict.fromkeys(arm.control for arm in arms if arm.control is not None))


def _cell(table: ScoreTable, row: int | None, arm: Arm | None) -> float:
    if row is None or arm is None or arm not in table.arms:
        return math.nan
    return float(table.value[row, table.arms.index(arm)])


def _only(values: Sequence[str | None]) -> str | None:
    """The one value of a column, None where there are several."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
