"""A latent's examples window by window, with dicts and lists: what drawing is compared with."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.examples.repeats import RUN
from harness.examples.splits import SPLITS, grid_of
from harness.store import Store
from harness.task import ExampleSettings

__all__ = ["PlainExamples"]

Window = tuple[int, dict[int, float], int]
SELECT = 20


@dataclass
class PlainExamples:
    """Draws by the rules of `harness.examples`, though not the same examples: the generator is Python's."""

    store: Store
    settings: ExampleSettings
    min_examples: int

    def __post_init__(self) -> None:
        window = self.settings.window
        grid = grid_of(self.store, window, 0, self.settings.split)
        self.split = [SPLITS[k] if k >= 0 else "" for k in grid.split.tolist()]
        self.members = {name: ids.tolist() for name, ids in grid.members.items()}
        self.tokens = np.array(self.store.tokens).reshape(-1, window)

    def draw(self, index: int) -> dict[str, list[Window]] | None:
        """The windows of each part, with their activations by position and their decile."""
        window, asked = self.settings.window, self.settings
        firings, chooser = self.store.coder("c").latent(index), random.Random(index)
        windows: dict[int, dict[int, float]] = defaultdict(dict)
        for position, value in zip(firings.positions.tolist(), firings.values.tolist(), strict=True):
            if self.split[position // window]:
                windows[position // window][position % window] = value
        if len(windows) < self.min_examples:
            return None
        ranked = sorted(windows, key=lambda k: (max(windows[k].values()), k))
        decile = {k: rank * 10 // len(ranked) + 1 for rank, k in enumerate(ranked)}
        mine = {name: [k for k in ranked if self.split[k] == name] for name in SPLITS}
        each = asked.scored.activating // 10
        scored = self._of_each_decile(mine["scored"], decile, each, chooser)
        silent = self._silent("scored", windows, asked.scored.non_activating, chooser)
        pairs = min(len(scored), len(silent))
        if pairs < asked.scored.minimum:
            return None
        seen = {run for k in (*scored, *silent[:pairs]) for run in self._runs(k)}
        shown = self._fresh(chooser.sample(mine["shown"], len(mine["shown"])), asked.shown.count, seen)
        select = self._fresh(self._of_each_decile(mine["select"], decile, SELECT, chooser), SELECT, seen)
        quiet = self._fresh(self._silent("select", windows, 2 * SELECT, chooser), SELECT, seen)
        parts = {"shown": shown, "select": select + quiet, "scored": chooser.sample(scored[:pairs], pairs) + silent}
        return {name: [(k, windows.get(k, {}), decile.get(k, 0)) for k in part] for name, part in parts.items()}

    def draw_with_strings(self, index: int) -> Any:
        """The same with the token strings of each window."""
        found, words = self.draw(index), self.store.vocabulary.strings
        if found is None:
            return None
        every = (one for part in found.values() for one in part)
        return [([words[token] for token in self.tokens[one[0]].tolist()], one) for one in every]

    def _of_each_decile(
        self, windows: list[int], decile: dict[int, int], each: int, chooser: random.Random
    ) -> list[int]:
        by_decile: dict[int, list[int]] = defaultdict(list)
        for k in windows:
            by_decile[decile[k]].append(k)
        return [k for group in by_decile.values() for k in chooser.sample(group, min(each, len(group)))]

    def _silent(self, split: str, windows: dict[int, Any], count: int, chooser: random.Random) -> list[int]:
        pool, found = self.members[split], set()
        if sum(k not in windows for k in chooser.sample(pool, min(400, len(pool)))) > 100:
            while len(found) < count:
                k = chooser.choice(pool)
                if k not in windows:
                    found.add(k)
            return list(found)
        silent = [k for k in pool if k not in windows]
        return chooser.sample(silent, min(count, len(silent)))

    def _fresh(self, windows: Iterable[int], count: int, seen: set[tuple[int, ...]]) -> list[int]:
        kept: list[int] = []
        for k in windows:
            if len(kept) == count:
                break
            if not any(run in seen for run in self._runs(k)):
                kept.append(k)
        return kept

    def _runs(self, window: int) -> list[tuple[int, ...]]:
        row = self.tokens[window].tolist()
        return [tuple(row[k : k + RUN]) for k in range(len(row) - RUN + 1)]
