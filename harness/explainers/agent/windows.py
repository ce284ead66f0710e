"""Passages that an agent may see: of the shown documents alone, other ones at each call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from harness.examples.pool import Pool
from harness.explainers.agent.showing import numbered, shown_window
from harness.task import Rung
from harness.values import Example, Place

__all__ = ["Windows"]


@dataclass(slots=True)
class Windows:
    """What was shown at first, and a pool of more; `maximum` is the latent's largest activation."""

    shown: Sequence[Example]
    pool: Pool
    maximum: float
    _seen: set[Place | None] = field(default_factory=set)

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """Where silent passages can be had from."""
        return self.pool.rungs

    @property
    def quantiles(self) -> int:
        """How many quantiles of strength there are, 0 where there are none."""
        return self.pool.quantiles

    def first(self, count: int) -> tuple[str, int]:
        """The first shown examples as one text, and how many they are."""
        return self._told(self.shown[:count]), len(self.shown[:count])

    def more(self, where: str, quantile: int | None, count: int) -> str:
        """Up to `count` passages that were not seen yet: activating ones, or silent ones of one of the rungs."""
        wanted = count + len(self._seen)
        if where == "activating":
            found = self.pool.activating(wanted, quantile, purpose="agent")
        else:
            found = self.pool.silent(wanted, cast(Rung, where), purpose="agent")
        fresh = [example for example in found if example.passage.place not in self._seen][:count]
        return self._told(fresh) if fresh else "There are no more passages of this kind."

    def _told(self, examples: Sequence[Example]) -> str:
        self._seen.update(example.passage.place for example in examples)
        return numbered(shown_window(one.passage.tokens, one.activations, self.maximum) for one in examples)
