"""Chooses a latent's windows: what is shown to an explainer, what may choose among explanations, what is scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.examples.centred import Centring
from harness.examples.chance import Chance
from harness.examples.repeats import repeats_of
from harness.examples.rungs import HARD, RUNGS, candidates, in_turns, random_silent, silent_rows, zero_rows
from harness.examples.samplers import draw_from, quantile_labels, sample, stratified
from harness.examples.semantic import open_index
from harness.examples.splits import NO_SPLIT, SPLITS, grid_of, split_of
from harness.examples.windows import activating_windows, contained, dense_activations
from harness.store import CoderReader
from harness.task import ExampleSettings, Rung
from harness.values import Failure, Split

__all__ = ["SELECT", "Choice", "Chosen", "LatentWindows", "choose"]

SELECT: Final = 20
# positions that are drawn together
_TRIES: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Windows as arrays.

    `starts` is int64 `[windows]`, the position of each one's first token; `activations` float32 `[windows, positions]`.
    `active` says which windows the latent activates, or, of the rung `misplaced`, are marked rightly. Their quantiles
    are from 1, those of the others 0; where records were selected, which has no quantiles, all are 0.
    """

    starts: NDArray[np.int64]
    activations: NDArray[np.float32]
    active: NDArray[np.bool_]
    quantiles: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A latent's windows before any text is made.

    `shown` is in the sampler's order; `select` is one half activating, in a random order; `scored` has those of each
    rung that has enough. `maximum` is the latent's largest activation in the store, `base_rate` the share of the
    store's usable windows that it activates, None where records were selected for what fires in them. `counts` says
    what was found, asked for, dropped, and fell short.
    """

    shown: Chosen
    select: Chosen
    scored: Mapping[str, Chosen]
    maximum: float
    base_rate: float | None
    counts: Mapping[str, int]


def choose(
    coder: CoderReader, index: int, settings: ExampleSettings, seed: int, *, min_examples: int = 1
) -> Choice | Failure:
    """Choose a latent's windows; equal arguments give equal ones, whatever else is drawn.

    Args:
        coder: the coder's activations.
        index: the latent.
        settings: the window and what to draw.
        seed: the run's seed.
        min_examples: the fewest distinct windows of one document that the latent has to activate.

    Returns:
        The windows, or a `too_few_examples` failure: the latent activates fewer than `min_examples` windows, none
        of the shown split, or no rung has `settings.scored.minimum` activating and as many silent windows to score.

    Raises:
        StoreError: the window does not divide the store's contexts, or there is no such latent.
    """
    latent = LatentWindows(coder, index, settings, seed)
    found = len(latent.windows)
    if found < max(min_examples, 1):
        return _too_few(f"it activates {_windows(found)} of one document, and {max(min_examples, 1)} are needed")
    active, silent = latent.scored_windows()
    least = settings.scored.minimum
    # every rung of the store, asked for or not, so that what is shown does not depend on what is asked
    pairs: dict[Rung, int] = {
        rung: some for rung, ids in silent.items() if (some := min(len(active), len(ids))) >= least
    }
    if not pairs:
        there = " and ".join(f"{_windows(len(ids))} without activation (rung {rung})" for rung, ids in silent.items())
        return _too_few(f"the scored split has {len(active)} activating and {there}, and {least} of each are needed")
    scored = [
        latent.windows.starts[active[: max(pairs.values())]],
        *(silent[rung][:some] for rung, some in pairs.items()),
    ]
    scored_runs = latent.runs(*scored)
    shown = latent.shown(scored_runs)
    if not len(shown):
        return _too_few(
            "no activating window is left to show: all share a run of tokens with a scored one or there are none"
        )
    select = latent.select(scored_runs)
    seen = scored_runs
    if any(rung in HARD for rung in settings.scored.rungs):
        seen = latent.runs(shown.starts, select.starts)
    drawn: dict[Rung, Chosen] = {}
    for rung in settings.scored.rungs:
        if rung == "misplaced":
            drawn[rung] = latent.misplaced(seen)
            continue
        if rung in HARD:
            silent[rung] = latent.hard(rung, seen)
            pairs[rung] = min(len(active), len(silent[rung]))
            latent.counts[f"scored_{rung.replace('-', '_')}"] = pairs[rung]
        if rung in pairs:
            drawn[rung] = latent.mixed(active[: pairs[rung]], silent[rung][: pairs[rung]], f"scored:{rung}")
    return Choice(
        shown,
        select,
        {rung: chosen for rung, chosen in drawn.items() if len(chosen) >= 2 * least},
        float(coder.maximum[index]),
        None if latent.selected else latent.counts["activating_windows"] / max(latent.n_observed, 1),
        latent.counts,
    )


class LatentWindows:
    """One latent's windows while they are being drawn from."""

    def __init__(self, coder: CoderReader, index: int, settings: ExampleSettings, seed: int) -> None:
        self._coder, self._index, self._settings, self._seed = coder, index, settings, seed
        self.window = settings.window
        self._generator = Chance(seed, coder.name, index).generator
        self.selected: bool = coder.store.manifest.frame.sampling == "selected"
        self._quantiles = 1 if self.selected else settings.scored.quantiles
        self._firings = coder.latent(index)
        self._observed = coder.observed(index)
        self._repeats = repeats_of(coder.store, settings.window)
        self._grid = grid_of(coder.store, settings.window, seed, settings.split)
        on_grid = activating_windows(self._firings, settings.window)
        self._every = on_grid.starts // settings.window
        self._every_split = self._grid.split[self._every]
        usable = (self._every_split != NO_SPLIT).nonzero()[0]
        self.windows, self._split = on_grid.take(usable), self._every_split[usable]
        self.n_observed: int = self._grid.n_usable
        if self._observed is not None:
            self.n_observed = sum(len(self._pool(name)) for name in SPLITS)
        self.counts: dict[str, int] = {
            "observed_windows" if self.selected else "windows": self.n_observed,
            "activating_windows": len(self.windows),
            "activating_windows_not_of_one_document": len(on_grid) - len(self.windows),
        }
        self._centring: Centring | None = None
        if settings.peak is not None:
            self._centring = Centring(settings.window, settings.peak, coder.store.documents)
            self.windows, documents, lost = self._centring.activating(self._firings)
            self._split = split_of(seed, documents, settings.split)
            self.counts |= {"centred_windows": len(self.windows), "peaks_without_room": lost}

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        return quantile_labels(self.windows.maxima, self._quantiles)

    def scored_windows(self) -> tuple[NDArray[np.int64], dict[Rung, NDArray[np.int64]]]:
        """Activating windows (indices, in rounds over the quantiles) and each rung's silent ones (starts)."""
        asked = self._settings.scored
        mine = self._of("scored")
        order, rounds = stratified(self._labels[mine], self._generator("scored"))
        each = asked.activating // self._quantiles
        active = mine[order[rounds < each]]
        silent: dict[Rung, NDArray[np.int64]] = {
            rung: self._silent(rung, "scored", asked.non_activating, f"silent:{rung}")
            for rung in RUNGS[self._coder.store.manifest.frame.sampling]
        }
        self.counts["scored_asked"] = asked.activating
        if self.selected:
            self.counts |= {
                f"scored_{rung.replace('-', '_')}": min(len(active), len(ids)) for rung, ids in silent.items()
            }
        else:
            self._note_short_quantiles(self._labels[active], each)
            self.counts["scored"] = min(len(active), len(silent["random"]))
        return active, silent

    def shown(self, scored_runs: NDArray[np.uint32]) -> Chosen:
        """What the explainer sees, in the sampler's order."""
        asked = self._settings.shown
        mine = self._of("shown")
        generator = self._generator("shown")
        chosen, dropped = sample(
            asked.sampler,
            self.windows.maxima[mine],
            self._labels[mine],
            asked.count,
            lambda some: self._shares(self.windows.starts[mine[some]], scored_runs),
            generator,
        )
        self.counts |= {"shown_asked": asked.count, "shown": len(chosen), "shown_dropped": dropped}
        return self._active(mine[chosen])

    def select(self, scored_runs: NDArray[np.uint32]) -> Chosen:
        """Up to `SELECT` activating windows over the quantiles, and as many silent ones, in random order."""
        if not self._settings.split.select:
            self.counts |= {"select_asked": SELECT, "select": 0, "select_dropped": 0}
            return self._active(np.empty(0, dtype=np.int64))
        mine = self._of("select")
        order = mine[stratified(self._labels[mine], self._generator("select"))[0]]
        rung = RUNGS[self._coder.store.manifest.frame.sampling][0]
        spare = self._silent(rung, "select", 2 * SELECT, "select:silent")
        drawn, silent, dropped = order[:SELECT], spare[:SELECT], 0
        # one look at both kinds is enough, unless something has to be replaced
        if self._shares(np.concatenate([self.windows.starts[drawn], silent]), scored_runs).any():
            drawn, dropped = draw_from([order], SELECT, lambda k: self._shares(self.windows.starts[k], scored_runs))
            silent, refused = draw_from([spare], SELECT, lambda starts: self._shares(starts, scored_runs))
            dropped += refused
        pairs = min(len(drawn), len(silent))
        self.counts |= {"select_asked": SELECT, "select": pairs, "select_dropped": dropped}
        return self.mixed(drawn[:pairs], silent[:pairs], "select:order")

    def hard(self, rung: Rung, seen: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Silent windows (starts) of a hard rung to score, none that shares a run with a shown or select one."""
        count, generator = self._settings.scored.non_activating, self._generator(f"silent:{rung}")
        if rung == "semantic":
            # nearest first
            places, generator = self._like(generator), None
        else:
            places = candidates(self._coder, self._index, rung)
        order = self._silent_near(places, "scored", generator, 2 * count)
        drawn, dropped = draw_from([order], count, lambda some: self._shares(some, seen))
        self.counts[f"scored_{rung.replace('-', '_')}_dropped"] = dropped
        return drawn

    def _like(self, generator: np.random.Generator) -> list[NDArray[np.int64]]:
        """Positions amid the windows that mean most nearly what activating ones do, a group for each of these."""
        index = open_index(self._coder.store, self._settings, self._seed)
        window = self._settings.window
        return [window * ids + window // 2 for ids in index.like(self._every, generator)]

    def misplaced(self, seen: NDArray[np.uint32]) -> Chosen:
        """Activating windows of the scored split, half of each quantile to be marked wrongly, in random order.

        Only those of which at most half the tokens activate, so that there is room for wrong marks; none that shares
        a run with a shown or select one.
        """
        mine = self._of("scored")
        order = mine[stratified(self._labels[mine], self._generator("scored:misplaced"))[0]]
        order = order[2 * (self.windows.stop - self.windows.first)[order] <= self._grid.window]
        wanted = 2 * self._settings.scored.activating
        drawn, dropped = draw_from([order], wanted, lambda some: self._shares(self.windows.starts[some], seen))
        # quantile by quantile every second one, in random order within each: both halves are of all strengths
        drawn = drawn[: len(drawn) // 2 * 2]
        drawn = drawn[self._labels[drawn].argsort(kind="stable")]
        self.counts |= {"scored_misplaced": len(drawn) // 2, "scored_misplaced_dropped": dropped}
        places = self._generator("scored:misplaced:order").permutation(len(drawn))
        some, rightly = self._active(drawn[places]), places % 2 == 0
        return Chosen(some.starts, some.activations, rightly, np.where(rightly, some.quantiles, 0))

    def mixed(self, active: NDArray[np.int64], silent: NDArray[np.int64], purpose: str) -> Chosen:
        """Activating windows (indices) and silent ones (starts) in one random order."""
        size = len(active) + len(silent)
        order = self._generator(purpose).permutation(size)
        rows = np.empty(size, dtype=np.int64)
        rows[order] = np.arange(size)
        own, rows = self.windows.take(active), rows[: len(active)]
        quantiles = np.zeros(size, dtype=np.int64)
        if not self.selected:
            quantiles[rows] = self._labels[active]
        return Chosen(
            np.concatenate([own.starts, silent])[order],
            dense_activations(own, self._firings, self._grid.window, rows, size),
            order < len(active),
            quantiles,
        )

    def more_shown(self, quantile: int | None, count: int, purpose: str, seen: NDArray[np.uint32]) -> Chosen:
        """Up to `count` activating windows of the shown split, of one quantile or any, that hold no run in `seen`.

        They begin a random order that is the same for every count.
        """
        mine = self._of("shown")
        if quantile is not None:
            mine = mine[self._labels[mine] == quantile]
        order = self._generator(purpose).permutation(mine)
        return self._active(draw_from([order], count, lambda some: self._shares(self.windows.starts[some], seen))[0])

    def more_silent(self, rung: Rung, count: int, purpose: str, seen: NDArray[np.uint32]) -> Chosen:
        """As `more_shown`, windows on which the latent is silent; of any rung but `semantic` and `misplaced`."""
        generator, window = self._generator(purpose), self.window
        if rung in HARD:
            # centred windows are cut one by one: twice as many, as some are passed over
            order = self._silent_near(candidates(self._coder, self._index, rung), "shown", generator, 2 * count)
        elif self._centring is not None:
            order = self._centring.silent(self._anywhere("shown", generator), self._firings, 2 * count)
        elif rung == "random":
            pool = self._pool("shown")
            order = window * generator.permutation(pool[~contained(pool, self._every)])
        else:
            rows = zero_rows if rung == "zero-row" else silent_rows
            order = window * rows(self._pool("shown"), self._every, self._grid.per_context, generator)
        starts = draw_from([order], count, lambda some: self._shares(some, seen))[0]
        silent = np.zeros((len(starts), window), dtype=np.float32)
        return Chosen(starts, silent, np.zeros(len(starts), dtype=bool), np.zeros(len(starts), dtype=np.int64))

    def runs(self, *starts: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The numbers of the runs in windows that the store has elsewhere too."""
        return self._repeats.inside(np.concatenate(starts), self._grid.window)

    def _of(self, split: Split) -> NDArray[np.int64]:
        """The activating windows (indices) of a split."""
        return (self._split == SPLITS.index(split)).nonzero()[0]

    def _active(self, indices: NDArray[np.int64]) -> Chosen:
        some = self.windows.take(indices)
        activations = dense_activations(some, self._firings, self._grid.window)
        quantiles = np.zeros(len(some), dtype=np.int64) if self.selected else self._labels[indices]
        return Chosen(some.starts, activations, np.ones(len(some), dtype=bool), quantiles)

    def _silent(self, rung: Rung, split: Split, count: int, purpose: str) -> NDArray[np.int64]:
        """Up to `count` windows of a split on which the latent is silent, of those where it was observed."""
        pool, generator = self._pool(split), self._generator(purpose)
        if self._centring is not None:
            return self._centring.silent(self._anywhere(split, generator), self._firings, count)
        if rung == "random":
            mine = self._every[(self._every_split == SPLITS.index(split)).nonzero()[0]]
            return self._settings.window * random_silent(pool, mine, count, generator)
        rows = zero_rows if rung == "zero-row" else silent_rows
        return self._settings.window * rows(pool, self._every, self._grid.per_context, generator)[:count]

    def _silent_near(
        self, places: Sequence[NDArray[np.int64]], split: Split, generator: np.random.Generator | None, most: int
    ) -> NDArray[np.int64]:
        """The silent windows (starts) of a split that hold some positions, group by group in turns.

        At least `most` where there are so many.
        """
        groups = [self._of_split(group, split) for group in places]
        if self._centring is None:
            return in_turns([self._silent_around(group) for group in groups], generator)
        return self._centring.silent(in_turns(groups, generator).tolist(), self._firings, most)

    def _anywhere(self, split: Split, generator: np.random.Generator) -> Iterator[int]:
        """Positions of a split's documents, uniformly; as many as there are in the store, so that it ends."""
        for _ in range(-(-self._coder.store.n_tokens // _TRIES)):
            yield from self._of_split(generator.integers(self._coder.store.n_tokens, size=_TRIES), split).tolist()

    def _of_split(self, positions: NDArray[np.int64], split: Split) -> NDArray[np.int64]:
        """Those of some positions that are of a split's documents, where the latent was observed."""
        store = self._coder.store
        documents = store.documents.reshape(-1)[positions]
        mine = documents >= 0
        mine &= split_of(self._seed, documents, self._settings.split) == SPLITS.index(split)
        if self._observed is not None:
            mine &= np.isin(positions // store.context_length, self._observed)
        return positions[mine]

    def _silent_around(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The windows (starts) of the grid that hold any of some positions and on which the latent is silent."""
        ids = positions // self._settings.window
        ids = ids[np.sort(np.unique(ids, return_index=True)[1])]
        ids = ids[self._grid.split[ids] != NO_SPLIT]
        return self._settings.window * ids[~contained(ids, self._every)]

    def _shares(self, starts: NDArray[np.int64], runs: NDArray[np.uint32]) -> NDArray[np.bool_]:
        return self._repeats.shared(starts, self._grid.window, runs)

    def _pool(self, split: Split) -> NDArray[np.int64]:
        members = self._grid.members[split]
        if self._observed is None:
            return members
        return members[np.isin(members // self._grid.per_context, self._observed)]

    def _note_short_quantiles(self, labels: NDArray[np.int64], each: int) -> None:
        got = np.bincount(labels, minlength=self._settings.scored.quantiles + 1)[1:]
        for place in np.flatnonzero(got < each).tolist():
            self.counts[f"scored_short_in_quantile_{place + 1}"] = each - int(got[place])


def _too_few(reason: str) -> Failure:
    return Failure("too_few_examples", f"too few examples: {reason}")


def _windows(count: int) -> str:
    return f"{count} window" if count == 1 else f"{count} windows"
