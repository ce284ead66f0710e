"""Prompts for interventions: windows that a latent activates, cut behind the first token that it fires on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.examples.chance import Chance
from harness.examples.repeats import repeats_of
from harness.examples.samplers import draw_from, quantile_labels, stratified
from harness.examples.splits import SPLITS, grid_of
from harness.examples.windows import Windows, activating_windows
from harness.store import CoderReader, Store
from harness.task import InterventionSettings, SplitSettings
from harness.values import Failure, Latent, Place

__all__ = ["Cut", "Cuts", "cuts"]


@dataclass(frozen=True, slots=True)
class Cut:
    """The beginning of a window as a prompt.

    `tokens` are its ids, opened by the store's BOS where it has one; `text` is theirs without that. `quantile` is the
    window's, from 1, 0 for a window that was drawn whatever fires in it.
    """

    tokens: tuple[int, ...]
    text: str
    place: Place
    quantile: int = 0


@dataclass(frozen=True, slots=True)
class Cuts:
    """A latent's prompts: to explain from, to choose among explanations by, to score with; and `anywhere`, whole
    windows of shown documents drawn whatever fires in them, as many as to explain from.

    The first three share no document, and `anywhere` none with those to choose by or to score with. Nothing shares a
    run of 16 tokens with a prompt to score with: `dropped` says how many to explain from or to choose by were passed
    over for that.
    """

    latent: Latent
    explain: tuple[Cut, ...]
    select: tuple[Cut, ...]
    score: tuple[Cut, ...]
    anywhere: tuple[Cut, ...]
    dropped: int


def cuts(
    coder: CoderReader, index: int, settings: InterventionSettings, shares: SplitSettings, seed: int
) -> Cuts | Failure:
    """Draw a latent's prompts, over the quantiles of its windows; equal arguments give equal prompts.

    Returns:
        The prompts, or a `too_few_examples` failure where there are fewer than `settings.minimum` to explain from or
        to score with.

    Raises:
        StoreError: the window does not divide the store's contexts, or there is no such latent.
    """
    store, window = coder.store, settings.window
    grid = grid_of(store, window, seed, shares)
    firings = coder.latent(index)
    windows = activating_windows(firings, window)
    split = grid.split[windows.starts // window]
    labels = quantile_labels(windows.maxima, settings.quantiles)
    chance = Chance(seed, coder.name, index)

    def order(part: str) -> NDArray[np.int64]:
        mine = np.flatnonzero(split == SPLITS.index(_DOCUMENTS[part]))
        return mine[stratified(labels[mine], chance.generator(f"cuts:{part}"))[0]]

    score = order("score")[: settings.score]
    repeats = repeats_of(store, window)
    seen = repeats.inside(windows.starts[score], window)

    def shares_run(starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        return repeats.shared(starts, window, seen)

    drawn = {"score": score}
    dropped = 0
    for part in ("explain", "select"):
        wanted = getattr(settings, part)
        drawn[part], more = draw_from([order(part)], wanted, lambda some: shares_run(windows.starts[some]))
        dropped += more
    short = [part for part in ("explain", "score") if len(drawn[part]) < settings.minimum]
    if short:
        had = len(drawn[short[0]])
        return Failure(
            "too_few_examples",
            f"{had} windows of {window} tokens are left to {short[0]} by intervention, {settings.minimum} are needed",
        )
    shown = grid.members["shown"]
    anywhere = chance.generator("cuts:anywhere").permutation(shown)[: 4 * settings.explain] * window
    whole, _ = draw_from([anywhere], settings.explain, shares_run)
    behind = firings.positions[windows.first] + 1
    parts = {part: _cut(store, windows, some, behind, labels) for part, some in drawn.items()}
    return Cuts(
        Latent(coder.name, index),
        **parts,
        anywhere=tuple(_prompt(store, int(start), int(start) + window, 0) for start in whole),
        dropped=dropped,
    )


# which documents a part's windows come from
_DOCUMENTS = {"explain": "shown", "select": "select", "score": "scored"}


def _cut(
    store: Store, windows: Windows, some: NDArray[np.int64], behind: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[Cut, ...]:
    return tuple(_prompt(store, int(windows.starts[one]), int(behind[one]), int(labels[one])) for one in some.tolist())


def _prompt(store: Store, start: int, stop: int, quantile: int) -> Cut:
    """What stands from `start` to `stop`, both positions in the store, of one context."""
    context, at = divmod(start, store.context_length)
    end = at + stop - start
    ids = tuple(int(token) for token in store.tokens[context, at:end])
    bos = store.manifest.frame.bos
    opened = ids if bos is None or at == 0 else (bos, *ids)
    return Cut(opened, "".join(store.pieces(context, at, end)), Place(store.id, context, at), quantile)
