"""What a run's newest task says: settings, arms, latents and stores."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.runs.arms import ExplanationArm, ScoreArm
from harness.runs.journal_rows import TaskRecord
from harness.store import Store

__all__ = ["Recorded"]


class Recorded:
    """A run's newest task, as it was written beside the journal."""

    task: TaskRecord

    @property
    def name(self) -> str:
        """The task's name."""
        return self.record["task"]["name"]

    @property
    def seed(self) -> int:
        """The task's seed."""
        return self.record["task"]["seed"]

    @property
    def ranking(self) -> Mapping[str, Any]:
        """The figure that arms are ranked by: `scorer`, `metric`, `margin`."""
        return self.record["ranking"]

    @property
    def rung(self) -> str:
        """The rung of the headline figures: `random`, or the first asked where records were selected."""
        rungs = self.record["task"]["examples"]["scored"]["rungs"]
        return "random" if "random" in rungs else rungs[0]

    @property
    def scorers(self) -> tuple[str, ...]:
        """The scorers' names."""
        return tuple(scorer["name"] for scorer in self.record["task"]["scorer"])

    @property
    def record(self) -> Mapping[str, Any]:
        """The newest task's record: settings, arms, latents, versions."""
        return self.task.record

    @cached_property
    def arms(self) -> tuple[ExplanationArm, ...]:
        """Explainers and controls, coder by coder."""
        return tuple(ExplanationArm(**arm) for arm in self.record["explanation_arms"])

    @cached_property
    def scoring(self) -> tuple[ScoreArm, ...]:
        """Scorers by rung, coder by coder."""
        return tuple(ScoreArm(**arm) for arm in self.record["score_arms"])

    @cached_property
    def hookpoints(self) -> dict[str, str | None]:
        """The hookpoint of each coder and population."""
        found = {coder["name"]: coder.get("hookpoint") for coder in self.record["task"]["coder"]}
        return found | {name: found[place["of"]] for name, place in self.populations.items()}

    @property
    def populations(self) -> Mapping[str, Mapping[str, Any]]:
        """The populations of random latents by name: `of` which coder, `control`, the `matched` latents, `store`."""
        return self.record.get("populations", {})

    def store(self, coder: str | None = None) -> Store:
        """The activation store that the run rests on, or the one that holds a population.

        Raises:
            StoreError: it is gone or broken.
        """
        place = self.record if coder is None else self.populations.get(coder, self.record)
        return Store.open(Path(place["store"]["path"]))

    def window_rates(self, control: str | None = None) -> list[float]:
        """The share of windows that each chosen latent fires in, of the task's coders or of a control's population.

        Empty where the task has no populations.
        """
        kinds = {name: place["control"] for name, place in self.populations.items()}
        rates = self.record.get("window_rates", {})
        return [rate for name, found in rates.items() if kinds.get(name) == control for rate in found]
