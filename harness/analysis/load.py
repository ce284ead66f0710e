"""A run as tables: what its newest task reaches, out of the journal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.recorded import Recorded
from harness.analysis.spending import SpendingLine, attempt_frame, spending
from harness.errors import RunError
from harness.metrics import CHANCE
from harness.runs.arms import ExplanationArm, ScoreArm, alone, constant, fixed, judges
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.journal_rows import TaskRecord, Unit
from harness.runs.keys import explanation_key, score_key, shuffled_key
from harness.runs.outcomes import explanation_of
from harness.scorers.verdicts import Verdicts
from harness.values import Explanation, Failure

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.columns import Columns

__all__ = ["MANY", "SAMPLE", "Run", "ScoreRow", "load"]

# of more latents tables are made from columns (`harness.analysis.columns`), below that unit by unit
MANY = 20_000
# latents of such a run whose single verdicts are looked at
SAMPLE = 1000

# latents with their places in the order of all
_Placed = Sequence[tuple[int, int]]
_EXPLANATIONS = (
    "run", "coder", "hookpoint", "latent", "explainer", "control", "text", "status", "message", "base_rate", "usage",
)  # fmt: skip
_SCORES = (
    "run", "coder", "hookpoint", "latent", "explainer", "control", "scorer", "scorer_model", "prompt", "rung",
    "status", "metrics", "n_pos", "n_neg", "failed", "usage",
)  # fmt: skip


@dataclass(frozen=True)
class ScoreRow:
    """One score that the task reaches: of which arm and latent, by which scorer.

    `unit` is None where there was no explanation to score; `status` then says why.
    """

    arm: ExplanationArm
    scoring: ScoreArm
    latent: int
    status: str
    message: str
    unit: Unit | None

    @cached_property
    def verdicts(self) -> Verdicts | None:
        """The verdicts, None where there are none."""
        return None if self.unit is None or self.unit.verdicts is None else Verdicts.unpack(self.unit.verdicts)


def load(run: str | Path) -> Run:
    """Open a run directory for reading, while it runs or after.

    Raises:
        RunError: it is no run directory, or nothing has run in it.
    """
    path = Path(run)
    if not (path / JOURNAL).is_file():
        raise RunError(f"{path}: no run directory (there is no {JOURNAL} in it)")
    return Run(path, Journal(path / JOURNAL))


class Run(Recorded):
    """A run's results as DataFrames; reading changes no result."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self.path = path
        self.journal = journal
        tasks = journal.tasks()
        if not tasks:
            raise RunError(f"{path}: nothing has run here yet")
        self.task: TaskRecord = tasks[-1]
        # of which latents everything is told, with their places in the order of all, by coder; None for all
        self._only: Mapping[str, _Placed] | None = None

    def part(self, latents: Mapping[str, Collection[int]]) -> Run:
        """The run as if it had these of its latents alone, in its own order; it shares the journal."""
        chosen = {coder: set(indices) for coder, indices in latents.items()}
        return self._with(
            {
                coder: [(at, index) for at, index in self._placed(coder) if index in chosen.get(coder, ())]
                for coder in self.latents
            }
        )

    def parts(self, many: int = 200) -> Iterator[Run]:
        """The run in parts of so many latents, in their order and coder by coder, for going through it bit by bit."""
        for coder in self.latents:
            for some in _chunks(self._placed(coder), many):
                yield self._with(dict.fromkeys(self.latents, ()) | {coder: some})

    def _with(self, only: Mapping[str, _Placed]) -> Run:
        found = copy(self)
        for name in ("sample", "columns", "latents"):
            found.__dict__.pop(name, None)
        found._only = only
        return found

    @property
    def large(self) -> bool:
        """Whether there are more latents than can be looked at one by one: `columns` then stand for the units."""
        return sum(map(len, self.latents.values())) > MANY

    @cached_property
    def sample(self) -> Run:
        """What tables rest on that need single verdicts: all of the run, or of a large one some latents.

        These are the first in the seeded order, as many of each coder: a random sample.
        """
        if not self.large:
            return self
        each = max(1, SAMPLE // len(self.latents))
        return self.part({coder: indices[:each] for coder, indices in self.latents.items()})

    @cached_property
    def columns(self) -> Columns:
        """The scores of all latents as arrays; made once and kept beside the journal."""
        from harness.analysis.columns import columns

        return columns(self)

    def close(self) -> None:
        """Close the journal; nothing can be read after that."""
        self.journal.close()

    @cached_property
    def latents(self) -> Mapping[str, list[int]]:
        """The chosen latents of each coder, in the seeded order."""
        if self._only is None:
            return self.record["latents"]
        return {coder: [index for _, index in placed] for coder, placed in self._only.items()}

    def metric_of(self, scorer: str) -> str:
        """The figure that a scorer is shown by: the primary one where it has it, else its own."""
        arms = [arm for arm in self.scoring if arm.scorer == scorer]
        wanted, own = self.ranking["metric"], next(arm.metric for arm in arms)
        if scorer == self.ranking["scorer"] or own == wanted:
            return wanted
        units = (unit for arm in arms for unit in self.journal.units(arm.digest) if unit.status == "ok")
        found = next((unit.result["metrics"] for unit in units if unit.result["metrics"]), {})
        return wanted if found.get(wanted) is not None else own

    def chance_of(self, scorer: str) -> float:
        """What the figure that a scorer is shown by is by guessing."""
        metric = self.metric_of(scorer)
        arm = next(arm for arm in self.scoring if arm.scorer == scorer)
        return arm.chance if arm.chance is not None and metric == arm.metric else CHANCE.get(metric, 0.0)

    def explanation_units(self) -> Iterator[tuple[ExplanationArm, int, Unit | None]]:
        """Arm, latent and unit of what is done; the unit is None for controls whose words are constant."""
        if self.large:
            for arm in self.arms:
                for part in self.parts():
                    yield from part._explained([arm] if part.latents[arm.coder] else [])
            return
        yield from self._explained(self.arms)

    def _explained(self, arms: Sequence[ExplanationArm]) -> Iterator[tuple[ExplanationArm, int, Unit | None]]:
        for arm in arms:
            units = {unit.key: unit for unit in self._units(arm)}
            cycle = self.record["latents"][arm.coder]
            for at, latent in self._placed(arm.coder):
                if fixed(arm):
                    yield arm, latent, None
                    continue
                following = cycle[(at + 1) % len(cycle)]
                shuffled = arm.control == "shuffled"
                key = shuffled_key(arm, latent, following) if shuffled else explanation_key(arm, latent)
                if key in units:
                    yield arm, latent, units[key]

    def _placed(self, coder: str) -> _Placed:
        """The latents that are told of, with their places in the order of all."""
        return list(enumerate(self.record["latents"][coder])) if self._only is None else self._only[coder]

    def _units(self, arm: ExplanationArm | ScoreArm) -> Iterator[Unit]:
        return self.journal.units(arm.digest, None if self._only is None else self.latents[arm.coder])

    def score_rows(self) -> Iterator[ScoreRow]:
        """Every score that is done, and those that had no explanation to score."""
        if self.large:
            # arm by arm as below, with the units of some latents at a time in memory
            for arm in self.arms:
                for part in self.parts():
                    yield from part._rows_of([arm] if part.latents[arm.coder] else [])
            return
        yield from self._rows_of(self.arms)

    def _rows_of(self, arms: Sequence[ExplanationArm]) -> Iterator[ScoreRow]:
        judging = [scoring for scoring in self.scoring if any(judges(scoring, arm) for arm in arms)]
        units = {scoring.digest: {u.key: u for u in self._units(scoring)} for scoring in judging}
        for arm, latent, unit in self._explained(arms):
            explanation = constant(arm.control) if unit is None else explanation_of(unit)
            for scoring in self.scoring:
                if not judges(scoring, arm):
                    continue
                if isinstance(explanation, Failure):
                    yield ScoreRow(arm, scoring, latent, explanation.status, explanation.message, None)
                    continue
                done = units[scoring.digest].get(score_key(scoring, latent, explanation))
                if done is not None:
                    yield ScoreRow(arm, scoring, latent, done.status, done.result.get("message", ""), done)

    def explanations(self) -> pd.DataFrame:
        """One row an explanation: whose, its text, status, message, the latent's base rate, usage.

        The base rate is the share of windows that the latent fires in; missing for controls and failures.
        """
        return _frame(self.explanation_records(), _EXPLANATIONS)

    def explanation_records(self) -> list[dict[str, Any]]:
        """The rows of `explanations` as dictionaries."""
        return list(self.each_explanation())

    def each_explanation(self) -> Iterator[dict[str, Any]]:
        """The same, one after another."""
        return (self._explanation(*told) for told in self.explanation_units() if not alone(told[0]))

    def _explanation(self, arm: ExplanationArm, latent: int, unit: Unit | None) -> dict[str, Any]:
        answer = constant(arm.control) if unit is None else explanation_of(unit)
        failed = isinstance(answer, Failure)
        return {
            **self._whose(arm, latent),
            "text": answer.text if isinstance(answer, Explanation) else None,
            "status": answer.status if failed else "ok",
            "message": answer.message if failed else None,
            "base_rate": None if unit is None else _base_rate(unit),
            "usage": None if unit is None else unit.result.get("usage"),
        }

    def scores(self) -> pd.DataFrame:
        """One row a score: whose, by which scorer on which rung, status, metrics (a dict), n_pos, n_neg, failed."""
        return _frame(self.score_records(), _SCORES)

    def score_frame(self, metrics: Collection[str]) -> pd.DataFrame:
        """What tables of scores are made from: `scores`, or of a large run the same in columns, with these figures.

        Figures of a large run are columns `metric_<name>`, and there is no `usage`.
        """
        if not self.large:
            return self.scores()
        from harness.analysis.frames import score_frame

        return score_frame(self, self.columns, metrics)

    def shown_figures(self) -> set[str]:
        """The figures that scorers are shown by, and what tables need beside them."""
        return {self.ranking["metric"], "chance", *(self.metric_of(name) for name in self.scorers)}

    def score_records(self) -> list[dict[str, Any]]:
        """The rows of `scores` as dictionaries."""
        return list(self.each_score())

    def each_score(self) -> Iterator[dict[str, Any]]:
        """The same, one after another."""
        return map(self._score, self.score_rows())

    def verdicts(self) -> pd.DataFrame:
        """One row a verdict: whose, by which scorer, on which window, truth, and what it says or why it says nothing.

        `label` is -1 where none was given; where there is no verdict `failure` says why. `value` is the number of a
        scorer that orders examples, missing for others; `quantile` is 0 for silent windows.
        """
        from harness.analysis.asked import verdict_frame

        return verdict_frame(self.score_rows())

    def texts(self) -> pd.DataFrame:
        """One row a text that was written for an explanation: whose, by which scorer, and what the latent did in it.

        `activating` says whether it was meant to activate the latent, `fired` whether it did, `activation` how strongly
        at most; where the text is missing `failure` says why.
        """
        from harness.analysis.asked import text_frame

        return text_frame(self.score_rows())

    def summary(self, metric: str | None = None) -> pd.DataFrame:
        """One row an arm and scorer by a metric, the primary one unless given, on the headline's rung.

        See `harness.analysis.tables` for the columns; there are also those of `harness.analysis.nulls.with_nulls`.
        """
        from harness.analysis.nulls import with_nulls
        from harness.analysis.tables import summary

        chosen: str = metric or self.ranking["metric"]
        frame = self.score_frame({chosen, "chance"})
        return with_nulls(self, summary(frame, chosen, rung=self.rung, seed=self.seed), chosen)

    def figures(self, rung: str | None = None) -> pd.DataFrame:
        """One row a score with every figure, trivial answers beside it, and what it is worth at the base rate.

        See `harness.analysis.figures`.
        """
        from harness.analysis.figures import figures

        return figures(self, rung)

    def ledger(self) -> pd.DataFrame:
        """One row an attempt at a request: for whom, how it ended, tokens, dollars, seconds.

        `outcome` is `ok`, the kind of error, or None where it was never learned; `tokens` and `dollars` are what it
        counts with, the most that it can have cost until, and unless, the provider told.
        """
        return attempt_frame(self.journal)

    def spending(self) -> list[SpendingLine]:
        """The ledger summed by stage, arm and model."""
        return spending(self.journal)

    def _whose(self, arm: ExplanationArm, latent: int) -> dict[str, Any]:
        return {
            "run": self.name,
            "coder": arm.coder,
            "hookpoint": self.hookpoints[arm.coder],
            "latent": latent,
            "explainer": arm.explainer,
            "control": arm.control,
        }

    def _score(self, row: ScoreRow) -> dict[str, Any]:
        verdicts = row.verdicts
        truth = None if verdicts is None else verdicts.truth
        result = {} if row.unit is None else row.unit.result
        return {
            **self._whose(row.arm, row.latent),
            "scorer": row.scoring.scorer,
            "scorer_model": row.scoring.model,
            "prompt": row.scoring.prompt,
            "rung": row.scoring.rung,
            "status": row.status,
            "metrics": result.get("metrics", {}) if row.status == "ok" else {},
            "n_pos": 0 if truth is None else int(truth.sum()),
            "n_neg": 0 if truth is None else int(len(truth) - truth.sum()),
            "failed": 0 if verdicts is None else int((~verdicts.answered).sum()),
            "usage": result.get("usage"),
        }


def _base_rate(unit: Unit) -> float | None:
    counts = unit.result.get("examples") or {}
    return counts["activating_windows"] / counts["windows"] if counts.get("windows") else None


def _chunks(placed: _Placed, many: int) -> Iterator[_Placed]:
    return (placed[first : first + many] for first in range(0, len(placed), many))


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))
