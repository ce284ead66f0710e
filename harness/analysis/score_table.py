"""One scorer's figure for every latent and arm, as matrices, made from a frame of scores.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.rows import figure_of, kept, known, mean_of, where
from harness.analysis.score import TOO_FEW
from harness.errors import UserError
from harness.metrics import CHANCE, METRICS, WORST, best_trivial, trivial
from harness.runs.arms import arm_label

__all__ = ["Arm", "ScoreTable", "Told", "control_of", "score_table", "score_tables", "scorers_with"]

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
            mean = mean_of(self.at_chance[:, self.arms.index(arm)])
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


def score_tables(
    scores: pd.DataFrame, metric: str, rung: str = "random", only: str | None = None
) -> Iterator[tuple[str, ScoreTable]]:
    """Each scorer that has the metric on the rung, or `only` this one, with its `score_table`.

    Raises:
        UserError: the metric is unknown, or the scorer or every scorer lacks it on the rung.
        ValueError: an arm has two scores for one latent.
    """
    return ((name, _table(group, metric)) for name, group in _by_scorer(scores, metric, rung, only).items())


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
    chance = next(iter(kept(said).tolist()), CHANCE[metric])
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


def _trivial(n_pos: Floats, n_neg: Floats, metric: str) -> float:
    """The mean over scores of what the best trivial judge gets on as many examples of either kind."""
    if metric not in METRICS:
        return math.nan
    sizes, times = np.unique(np.stack([n_pos, n_neg], axis=1).astype(np.int64), axis=0, return_counts=True)
    found = [best_trivial(trivial(a, b), metric) if min(a, b) > 0 else None for a, b in sizes.tolist()]
    counted = [(value, count) for value, count in zip(found, times.tolist(), strict=True) if value is not None]
    whole = sum(count for _, count in counted)
    return sum(value * count for value, count in counted) / whole if whole else math.nan


def _only(scores: pd.DataFrame, name: str) -> str | None:
    """The one value of a column, None where there are several."""
    codes, values = known(scores, name)
    return str(values[0]) if len(values) == 1 and (codes == 0).all() else None
