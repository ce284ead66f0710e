"""More windows of a latent's shown documents, drawn when somebody asks: activating ones, or silent ones of a rung."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache, partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.examples.choosing import Chosen, LatentWindows
from harness.examples.repeats import repeats_of
from harness.examples.rungs import RUNGS
from harness.examples.splits import SPLITS, grid_of, split_of
from harness.store import CoderReader, Store
from harness.task import ExampleSettings, Rung
from harness.values import Example, Passage, Place

__all__ = ["POOLED", "Pool", "rungs_of", "with_text"]

# the hard rungs that a pool has: the index of `semantic` is of scored windows, and `misplaced` ones are not silent
POOLED: Final[tuple[Rung, ...]] = ("same-token", "neighbour", "cooccurring")


class Pool:
    """Windows of the shown split alone, for explainers that want more than what every explainer is shown.

    None shares a run of 16 tokens with any window of the scored split, asked for or not, so that what is drawn does not
    depend on what is scored. An order depends on (seed, coder, latent, purpose): equal arguments give equal windows,
    and those of a smaller count come first in a larger one. Without a source there are no windows.

    `rungs` are those that silent windows can be had of, `quantiles` is how many quantiles activating ones have (0 where
    they have none).
    """

    def __init__(
        self,
        source: Callable[[], tuple[Store, LatentWindows, NDArray[np.uint32]]] | None = None,
        rungs: tuple[Rung, ...] = (),
        quantiles: int = 0,
    ) -> None:
        self._source = None if source is None else cache(source)
        self.rungs = rungs
        self.quantiles = quantiles

    @classmethod
    def of(cls, coder: CoderReader, index: int, settings: ExampleSettings, seed: int) -> Pool:
        """The pool of a latent; nothing is read before windows are asked for."""
        selected = coder.store.manifest.frame.sampling == "selected"
        quantiles = 0 if selected else settings.scored.quantiles
        return cls(partial(_opened, coder, index, settings, seed), rungs_of(coder), quantiles)

    def activating(
        self, count: int, quantile: int | None = None, *, start: int = 0, purpose: str = ""
    ) -> tuple[Example, ...]:
        """Up to `count` activating windows, of one quantile (1 is the weakest) or of any, in random order.

        `start` of them are passed over, for who has seen these; each purpose has an order of its own.

        Raises:
            ValueError: there is no such quantile.
        """
        if quantile is not None and not 1 <= quantile <= self.quantiles:
            raise ValueError(f"there is no quantile {quantile}; there are 1 to {self.quantiles}")
        if self._source is None:
            return ()
        store, windows, scored = self._source()
        named = f"pool:{purpose}:{'any' if quantile is None else quantile}"
        chosen = windows.more_shown(quantile, start + count, named, scored)
        return with_text(store, chosen, windows.window, None)[start:]

    def silent(self, count: int, rung: Rung, *, start: int = 0, purpose: str = "") -> tuple[Example, ...]:
        """Up to `count` windows of a rung on which the latent is silent; all else as `activating`.

        Raises:
            ValueError: windows of that rung cannot be had.
        """
        if rung not in self.rungs:
            raise ValueError(f'there are no windows of rung "{rung}"; there are: {", ".join(self.rungs)}')
        if self._source is None:
            return ()
        store, windows, scored = self._source()
        chosen = windows.more_silent(rung, start + count, f"pool:{purpose}:{rung}", scored)
        return with_text(store, chosen, windows.window, rung)[start:]


def rungs_of(coder: CoderReader) -> tuple[Rung, ...]:
    """The rungs that a pool has silent windows of."""
    sampling = coder.store.manifest.frame.sampling
    hard: tuple[Rung, ...] = tuple(rung for rung in POOLED if rung != "neighbour" or coder.decoder is not None)
    return RUNGS[sampling] + (hard if sampling == "all" else ())


def with_text(store: Store, chosen: Chosen, window: int, rung: str | None) -> tuple[Example, ...]:
    """Chosen windows as examples with their text; the silent ones are of that rung."""
    contexts, starts = np.divmod(chosen.starts, store.context_length)
    # before the rows are taken: a view of a read-only array is read-only
    chosen.activations.setflags(write=False)
    columns = (
        store.window_pieces(chosen.starts, window),
        contexts.tolist(),
        starts.tolist(),
        chosen.activations,
        chosen.quantiles.tolist(),
        chosen.active.tolist(),
    )
    return tuple(
        Example(
            Passage(text, (), Place(store.id, context, start), store),
            activations,
            quantile or None,
            None if active else rung,
        )
        for text, context, start, activations, quantile, active in zip(*columns, strict=True)
    )


def _opened(
    coder: CoderReader, index: int, settings: ExampleSettings, seed: int
) -> tuple[Store, LatentWindows, NDArray[np.uint32]]:
    return coder.store, LatentWindows(coder, index, settings, seed), _scored_runs(coder.store, settings, seed)


_RUNS: weakref.WeakKeyDictionary[Store, dict[str, NDArray[np.uint32]]] = weakref.WeakKeyDictionary()


def _scored_runs(store: Store, settings: ExampleSettings, seed: int) -> NDArray[np.uint32]:
    """The numbers of the repeated runs of the scored split's documents, ascending; found once for a store."""
    known = _RUNS.setdefault(store, {})
    key = f"{settings.window} {seed} {settings.split!r}"
    if key not in known:
        scored = SPLITS.index("scored")

        def by_document(positions: NDArray[np.int64]) -> NDArray[np.bool_]:
            # a run that reaches into another document lies in no window, and what was put in is of none
            documents = store.documents.reshape(-1)[positions].max(axis=1)
            return (documents >= 0) & (split_of(seed, documents, settings.split) == scored)

        def by_window(positions: NDArray[np.int64]) -> NDArray[np.bool_]:
            grid = grid_of(store, settings.window, seed, settings.split)
            return grid.split[positions[:, 0] // settings.window] == scored

        selected = store.manifest.frame.sampling == "selected"
        known[key] = repeats_of(store, settings.window).of(by_window if selected else by_document)
    return known[key]
