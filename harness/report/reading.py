"""A run being read: its rows and units, fetched once for all parts of a report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from harness.analysis.interventions import changes
from harness.analysis.load import Run, ScoreRow
from harness.errors import StoreError
from harness.report.data import ScorerLine
from harness.report.evidence import Arm
from harness.runs.arms import ExplanationArm, written
from harness.runs.journal_rows import Unit
from harness.store import CoderReader, Store
from harness.task import Rung, Task
from harness.values import Latent

if TYPE_CHECKING:
    import pandas as pd

    from harness.subject.intervened import Intervened

__all__ = ["Reading", "arm_of"]


class Reading:
    """One run with what several parts of a report need of it.

    `run` is what is gone through latent by latent and verdict by verdict: of a large run its sample. `whole` is all.
    """

    def __init__(self, run: Run) -> None:
        self.whole = run
        self.run = run.sample
        self._populations: dict[str, CoderReader | None] = {}

    @cached_property
    def task(self) -> Task:
        """The task, as it was frozen."""
        return Task.model_validate(dict(self.run.record["task"]))

    @property
    def rung(self) -> Rung:
        """The rung of the headline figures."""
        return self.task.examples.scored.headline

    @cached_property
    def store(self) -> Store | None:
        """The activation store, None where it is gone."""
        try:
            return self.run.store()
        except StoreError:
            return None

    def reader(self, coder: str) -> CoderReader | None:
        """A coder's, or a population's, activations; None where their store is gone."""
        if coder not in self.run.populations:
            return None if self.store is None else self.store.coder(coder)
        if coder not in self._populations:
            try:
                self._populations[coder] = self.run.store(coder).coder(coder)
            except StoreError:
                self._populations[coder] = None
        return self._populations[coder]

    @cached_property
    def changes(self) -> Mapping[tuple[str, int], tuple[Intervened, ...]]:
        """What changing each latent came to, by coder and latent."""
        return changes(self.run)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All scores as a table."""
        return self.run.scores()

    @cached_property
    def scores(self) -> pd.DataFrame:
        """All scores of all latents, with the figures that scorers are shown by."""
        return self.whole.score_frame(self.whole.shown_figures()) if self.whole.large else self.frame

    @cached_property
    def explanations(self) -> list[tuple[ExplanationArm, int, Unit | None]]:
        """Arm, latent and unit of every explanation."""
        return list(self.run.explanation_units())

    @cached_property
    def explained(self) -> Mapping[Latent, list[tuple[ExplanationArm, int, Unit | None]]]:
        """The explanations by latent."""
        found: defaultdict[Latent, list[tuple[ExplanationArm, int, Unit | None]]] = defaultdict(list)
        for line in self.explanations:
            found[Latent(line[0].coder, line[1])].append(line)
        return found

    @cached_property
    def rows(self) -> list[ScoreRow]:
        """Every score."""
        return list(self.run.score_rows())

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """Real arms, then controls."""
        found = dict.fromkeys(arm_of(arm) for arm in self.run.arms)
        return tuple(sorted(found, key=lambda arm: arm.control is not None))

    @cached_property
    def scorers(self) -> tuple[ScorerLine, ...]:
        """The scorers in the task's order."""
        names = dict.fromkeys(scoring.scorer for scoring in self.run.scoring)
        return tuple(self._scorer(name) for name in names)

    def _scorer(self, name: str) -> ScorerLine:
        return ScorerLine(name, self.run.metric_of(name), self.run.chance_of(name))

    @cached_property
    def too_few(self) -> set[Latent]:
        """Latents that could not be asked about."""
        explained = {
            Latent(arm.coder, latent)
            for arm, latent, unit in self.explanations
            if written(arm) and unit is not None and unit.status == "too_few_examples"
        }
        return explained | {Latent(r.arm.coder, r.latent) for r in self.rows if r.status == "too_few_examples"}

    def distinct(self) -> list[ScoreRow]:
        """Rows by unit: arms whose explanations are equal share their scores."""
        return list({row.unit.key: row for row in self.rows if row.unit is not None}.values())


def arm_of(arm: ExplanationArm) -> Arm:
    """The arm as a report names it, whatever the coder."""
    return Arm(arm.explainer, arm.control)
