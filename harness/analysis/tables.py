"""Tables of a run's scores: one row an arm and scorer with intervals and lifts, and one row a latent.

A frame of scores has one row a score: `run, coder, hookpoint, latent, explainer, control, scorer, scorer_model,
prompt, rung, status, metrics, n_pos, n_neg, failed`. `metrics` is a mapping of figures, None where one is not
defined; a frame may have a column `metric_<name>` for each figure instead. `n_pos` and `n_neg` count the examples
asked about, `failed` those of them without a verdict. An arm is (run, explainer, control); `control` is missing for
real arms and `explainer` for controls that need none. A latent whose explanation failed has score rows with the
explanation's status: what has no row was not reached yet.

**Failures at chance.** Arms are ranked by the mean in which what has no score counts as a fair coin's (0.5, or 0
for correlations): a failed score wholly, a score with failed verdicts by their share, and a figure that the
verdicts left undefined (precision where nothing was called activating). A latent with too few examples is
counted and in no mean, as no arm could be asked about it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.rows import figure_of, known, where
from harness.analysis.score import TOO_FEW
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

__all__ = ["Arm", "ScoreTable", "Told", "control_of", "latent_table", "score_table", "scorers_with", "summary"]

Floats = NDArray[np.float64]


class Arm(NamedTuple):
    """One explainer or control of one run; `control` is None for a real arm."""

    run: str | None
    explainer: str | None
    control: str | None

    @property
    def label(self) -> str:
        """The arm's name in a table: `mini`, `mini (shuffled)` or `none`."""
        return arm_label(self.explainer, self.control)


class Told(NamedTuple):
    """What is told of an arm's scores beside their figures: how many there are, by whom, and how many failed.

    `trivial` is the mean of what the best trivial judge gets on the same examples, NaN where there is none.
    """

    scorer_model: str | None
    prompt: str | None
    latents: int
    statuses: Mapping[str, int]
    failed_verdicts: int
    trivial: float


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """One scorer's figure for every latent and arm, on one rung.

    `coders` and `indices` say which latent a row is of; the matrices are `[latents, arms]`: `value` NaN where there
    is no figure, `at_chance` and `worst` with failures filled in, NaN where there is nothing to fill (not reached, or
    too few examples). `told` is what else is told of each arm's scores, `metric` the figure.
    """

    arms: tuple[Arm, ...]
    coders: NDArray[np.object_]
    indices: NDArray[np.int64]
    value: Floats
    at_chance: Floats
    worst: Floats
    told: tuple[Told, ...]
    metric: str

    @property
    def latents(self) -> tuple[tuple[str, int], ...]:
        """The latents as (coder, index)."""
        return tuple(zip(self.coders.tolist(), self.indices.tolist(), strict=True))

    def common(self) -> NDArray[np.bool_]:
        """The latents on which all compared arms have a figure, `[latents]`.

        Compared are, coder by coder, the arms that have any figure there: a population of its own (a random
        coder) does not empty the others'.
        """
        has = ~np.isnan(self.value)
        shared = np.zeros(len(self.coders), dtype=bool)
        for coder in pd.unique(self.coders):
            of = self.coders == coder
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


def _by_scorer(frame: pd.DataFrame, metric: str, rung: str, only: str | None = None) -> dict[str, pd.DataFrame]:
    """The scores on a rung of each scorer that has the metric, or of one scorer, which must."""
    if metric not in CHANCE:
        raise UserError(f'there is no metric "{metric}"; known: {", ".join(CHANCE)}')
    there = where(frame, rung=rung)
    if there.empty:
        rungs = ", ".join(str(one) for one in known(frame, "rung")[1]) or "none"
        raise UserError(f'there are no scores on rung "{rung}"; rungs with scores: {rungs}')
    groups = {str(scorer): where(there, scorer=scorer) for scorer in known(there, "scorer")[1]}
    found = {scorer: group for scorer, group in groups.items() if _has(group, metric)}
    if not found:
        raise UserError(f'no scorer has the metric "{metric}" on rung "{rung}"; scorers there: {", ".join(groups)}')
    if only is not None and only not in found:
        raise UserError(f'scorer "{only}" has no metric "{metric}" on rung "{rung}"; with it: {", ".join(found)}')
    return found if only is None else {only: found[only]}


def _has(scores: pd.DataFrame, metric: str) -> bool:
    ok = np.asarray(scores["status"] == "ok", dtype=bool)
    return not ok.any() or bool(np.isfinite(figure_of(scores, metric)[ok]).any())


def _table(scores: pd.DataFrame, metric: str) -> ScoreTable:
    arm_of, arms = _arms(scores)
    latent_of, coders, indices = _latents(scores)
    if len(np.unique(latent_of * len(arms) + arm_of)) < len(scores):
        twice = scores.duplicated(["run", "explainer", "control", "coder", "latent"]).to_numpy()
        label, scorer = arms[int(arm_of[twice][0])].label, scores["scorer"].iloc[0]
        raise ValueError(f'arm "{label}" has two scores of "{scorer}" for one latent')
    status, n_pos, n_neg, failed = scores["status"], *(_counts(scores, name) for name in ("n_pos", "n_neg", "failed"))
    said = figure_of(scores, "chance")
    chance = next(iter(said[~np.isnan(said)].tolist()), CHANCE[metric])
    figure = np.where(status == "ok", figure_of(scores, metric), np.nan)
    share = failed / np.maximum(1, n_pos + n_neg)
    few = np.asarray(status == TOO_FEW, dtype=bool)
    shape = len(coders), len(arms)

    def matrix(values: Floats) -> Floats:
        made = np.full(shape, np.nan)
        made[latent_of, arm_of] = values
        return made

    def filled(level: float) -> Floats:
        whole = np.where(np.isnan(figure), level, (1 - share) * figure + share * level)
        return matrix(np.where(few, np.nan, whole))

    told = tuple(_told(scores, arm_of == at, metric, n_pos, n_neg, failed, said) for at in range(len(arms)))
    worst = filled(WORST.get(metric, math.nan))
    return ScoreTable(arms, coders, indices, matrix(figure), filled(chance), worst, told, metric)


def _arms(scores: pd.DataFrame) -> tuple[NDArray[np.int64], tuple[Arm, ...]]:
    """Which arm each score is of, and the arms as they first occur."""
    names = [known(scores, name) for name in Arm._fields]
    number = np.zeros(len(scores), np.int64)
    for codes, values in names:
        number = number * (len(values) + 1) + codes + 1
    of, distinct = pd.factorize(number)
    firsts = [int(np.argmax(number == one)) for one in distinct.tolist()]
    cells = [[None if codes[at] < 0 else str(values[codes[at]]) for codes, values in names] for at in firsts]
    return of.astype(np.int64), tuple(Arm(*row) for row in cells)


def _latents(scores: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.object_], NDArray[np.int64]]:
    """Which latent each score is of, and the latents' coders and indices, sorted."""
    codes, names = known(scores, "coder")
    rank = np.argsort(np.argsort(np.array(names, dtype=object)))
    index = scores["latent"].to_numpy(np.int64)
    width = int(index.max()) + 1
    distinct, of = np.unique(rank[codes] * width + index, return_inverse=True)
    return of, np.array(sorted(names), dtype=object)[distinct // width], distinct % width


def _counts(scores: pd.DataFrame, name: str) -> Floats:
    """A column of counts, 0 where it is missing."""
    return np.nan_to_num(scores[name].to_numpy(np.float64, na_value=np.nan))


def _told(
    scores: pd.DataFrame,
    own: NDArray[np.bool_],
    metric: str,
    n_pos: Floats,
    n_neg: Floats,
    failed: Floats,
    said: Floats,
) -> Told:
    mine = scores.iloc[np.flatnonzero(own)]
    codes, names = known(mine, "status")
    statuses = dict(zip(map(str, names), np.bincount(codes, minlength=len(names)).tolist(), strict=True))
    # of choices among several chance is told with the figure
    judged = own & np.isnan(said)
    return Told(
        _only(mine, "scorer_model"),
        _only(mine, "prompt"),
        int(own.sum()),
        statuses,
        int(failed[own].sum()),
        _trivial(n_pos[judged], n_neg[judged], metric),
    )


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


def _trivial(n_pos: Floats, n_neg: Floats, metric: str) -> float:
    """The mean over scores of what the best trivial judge gets on as many examples of either kind."""
    if metric not in METRICS:
        return math.nan
    sizes, times = np.unique(np.stack([n_pos, n_neg], axis=1).astype(np.int64), axis=0, return_counts=True)
    found = [best_trivial(trivial(a, b), metric) if min(a, b) > 0 else None for a, b in sizes.tolist()]
    counted = [(value, count) for value, count in zip(found, times.tolist(), strict=True) if value is not None]
    whole = sum(count for _, count in counted)
    return sum(value * count for value, count in counted) / whole if whole else math.nan


def _arm_row(table: ScoreTable, arm: Arm, scorer: str, seed: int) -> dict[str, Any]:
    column = table.arms.index(arm)
    told, value = table.told[column], table.value[:, column]
    shared = table.common() & ~np.isnan(value)
    own = value[~np.isnan(value)]
    ok = told.statuses.get("ok", 0)
    quartiles = np.quantile(own, [0.5, 0.25, 0.75]).tolist() if len(own) else [math.nan] * 3
    row: dict[str, Any] = {
        **arm._asdict(),
        "arm": arm.label,
        "scorer": scorer,
        "scorer_model": told.scorer_model,
        "prompt": told.prompt,
        "latents": told.latents,
        "ok": ok,
        "undefined": ok - len(own),
        **{status: told.statuses.get(status, 0) for status in get_args(FailureStatus)},
        "failed_verdicts": told.failed_verdicts,
        "common": int(shared.sum()),
        **_with_interval("mean", value[shared], seed),
        **_with_interval("mean_at_chance", table.at_chance[:, column], seed),
        "worst": _mean(table.worst[:, column]),
        **dict(zip(("median", "q25", "q75"), quartiles, strict=True)),
        **_ends("median", median_interval(own)),
        "trivial": told.trivial,
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


def _only(scores: pd.DataFrame, name: str) -> str | None:
    """The one value of a column, None where there are several."""
    codes, values = known(scores, name)
    return str(values[0]) if len(values) == 1 and (codes == 0).all() else None
