"""What is in a store and what is known of one latent, as values that a person or a program reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import StoreError
from harness.store.reader import CoderReader, Firings, Store
from harness.store.statistics import RARE, SINGLE

__all__ = [
    "CoderSummary",
    "LatentSummary",
    "StoreSummary",
    "TokenSummary",
    "WindowSummary",
    "find_latent",
    "summarize",
    "summarize_latent",
]

_WINDOW = 32


@dataclass(frozen=True, slots=True)
class CoderSummary:
    """A coder in a store; `dead`, `rare` and `single_token` are shares of its latents, 0 to 1.

    Rare is firing fewer than `RARE` times, dead latents among them; single-token is having at least `SINGLE` of the
    firings on one token. `l0` is how many latents fire at a token, on average. Of selected records, `l0`, `dead` and
    `rare` would say nothing about the coder: None.
    """

    name: str
    hookpoint: str
    revision: str | None
    latents: int
    nonzeros: int
    l0: float | None
    dead: float | None
    rare: float | None
    single_token: float
    decoder: int | None
    rows: bool
    partial: bool


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """A store as a whole: `tokens` counts every position, `read` those of documents, `bytes` the files on disk."""

    path: str
    id: str
    version: int
    model: str
    model_revision: str | None
    corpus: dict[str, Any]
    sampling: str
    context: int
    contexts: int
    tokens: int
    read: int
    documents: int
    value_dtype: str
    bytes: int
    counts: dict[str, int]
    versions: dict[str, str]
    coders: tuple[CoderSummary, ...]


@dataclass(frozen=True, slots=True)
class TokenSummary:
    """A token that a latent fires on: how often, and how strongly at most."""

    id: int
    text: str
    firings: int
    maximum: float


@dataclass(frozen=True, slots=True)
class WindowSummary:
    """A window of a context from position `start` on, its token strings, and the latent's activation at each."""

    context: int
    start: int
    document: int
    pieces: tuple[str, ...]
    activations: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LatentSummary:
    """One latent: counts, activations where it fires, its histogram (0 to `maximum`), tokens and strongest windows.

    `read` is at how many tokens it was looked at, `contexts` in how many contexts it fires, `tokens` on how many
    distinct tokens. `rate` is firings over `read`; None of selected records.
    """

    coder: str
    latent: int
    read: int
    firings: int
    rate: float | None
    contexts: int
    maximum: float
    mean: float
    deviation: float
    histogram: tuple[int, ...]
    tokens: int
    top_tokens: tuple[TokenSummary, ...]
    top_windows: tuple[WindowSummary, ...]


def summarize(store: Store) -> StoreSummary:
    """What is in a store; reads its statistics and the documents.

    Raises:
        StoreError: a file is corrupt.
    """
    frame, manifest = store.manifest.frame, store.manifest
    present = np.unique(np.concatenate([np.unique(part) for part in np.array_split(store.documents, 64)]))
    return StoreSummary(
        path=str(store.path),
        id=store.id,
        version=manifest.version,
        model=frame.model,
        model_revision=frame.model_revision,
        corpus=dict(frame.corpus),
        sampling=frame.sampling,
        context=store.context_length,
        contexts=store.n_contexts,
        tokens=store.n_tokens,
        read=int(store.read.sum()),
        documents=int((present >= 0).sum()),
        value_dtype=frame.value_dtype,
        bytes=sum(record.bytes for record in manifest.files.values()),
        counts=dict(manifest.counts),
        versions=dict(frame.versions),
        coders=tuple(_coder(store.coder(name)) for name in store.coder_names),
    )


def summarize_latent(coder: CoderReader, index: int, tokens: int = 10, windows: int = 5) -> LatentSummary:
    """One latent with its most common `tokens` and the strongest of its `windows` (32 tokens, or a whole context).

    Raises:
        StoreError: the coder has no such latent, or a file is corrupt.
    """
    firings, found = coder.latent(index), coder.statistics
    return LatentSummary(
        coder=coder.name,
        latent=index,
        read=int(found.read[index]),
        firings=int(found.firings[index]),
        rate=None if _selected(coder.store) else float(found.rate[index]),
        contexts=int(found.contexts[index]),
        maximum=float(found.maximum[index]),
        mean=float(found.mean[index]),
        deviation=float(found.deviation[index]),
        histogram=tuple(found.histogram[index].tolist()),
        tokens=int(found.tokens[index]),
        top_tokens=_top_tokens(coder.store, firings, tokens),
        top_windows=_top_windows(coder.store, firings, windows),
    )


def find_latent(store: Store, name: str) -> tuple[CoderReader, int]:
    """The coder and the index that `CODER/N`, or `N` in a store of one coder, stands for.

    Raises:
        StoreError: it stands for nothing in this store.
    """
    coder, slash, number = name.rpartition("/")
    first, *others = store.coder_names
    if not (number.isascii() and number.isdecimal()):
        raise StoreError(f'"{name}" is no latent: write N or CODER/N, such as {first}/0')
    if not slash and others:
        choices = " or ".join(f"{one}/{number}" for one in (first, *others))
        raise StoreError(f"{store.path} has several coders: write {choices}")
    found = store.coder(coder if slash else first)
    if int(number) >= found.n_latents:
        raise StoreError(f'coder "{found.name}" has latents 0 to {found.n_latents - 1}, not {number}')
    return found, int(number)


def _coder(coder: CoderReader) -> CoderSummary:
    found, selected = coder.statistics, _selected(coder.store)
    manifest = next(one for one in coder.store.manifest.coders if one.name == coder.name)
    return CoderSummary(
        name=coder.name,
        hookpoint=coder.hookpoint,
        revision=coder.revision,
        latents=coder.n_latents,
        nonzeros=int(found.firings.sum()),
        l0=None if selected else found.l0,
        dead=None if selected else float(found.dead.mean()),
        rare=None if selected else float(found.rare(RARE).mean()),
        single_token=float(found.single_token(SINGLE).mean()),
        decoder=manifest.decoder,
        rows=manifest.rows,
        partial=manifest.partial,
    )


def _selected(store: Store) -> bool:
    return store.manifest.frame.sampling == "selected"


def _top_tokens(store: Store, firings: Firings, most: int) -> tuple[TokenSummary, ...]:
    """The tokens with the most firings; of equals the smallest id first."""
    at = store.tokens.reshape(-1)[firings.positions]
    ids, places, counts = np.unique(at, return_inverse=True, return_counts=True)
    strongest = np.zeros(len(ids), dtype=np.float32)
    np.maximum.at(strongest, places, firings.values)
    strings = store.vocabulary.strings
    return tuple(
        TokenSummary(int(ids[k]), strings[ids[k]] if ids[k] < len(strings) else "", int(counts[k]), float(strongest[k]))
        for k in np.argsort(-counts, kind="stable")[:most]
    )


def _top_windows(store: Store, firings: Firings, most: int) -> tuple[WindowSummary, ...]:
    """The windows with the strongest activations, on the grid; of equals the earliest first."""
    size = _WINDOW if store.context_length % _WINDOW == 0 else store.context_length
    found: dict[int, WindowSummary] = {}
    windows = firings.positions // size
    for place in np.argsort(-firings.values, kind="stable"):
        number = int(windows[place])
        if len(found) == most:
            break
        if number not in found:
            found[number] = _window(store, firings, number, size)
    return tuple(found.values())


def _window(store: Store, firings: Firings, number: int, size: int) -> WindowSummary:
    low, high = np.searchsorted(firings.positions, [number * size, (number + 1) * size])
    activations = np.zeros(size, dtype=np.float32)
    activations[firings.positions[low:high] - number * size] = firings.values[low:high]
    context, start = divmod(number * size, store.context_length)
    owners = store.documents[context, start : start + size][activations > 0]
    return WindowSummary(
        context=context,
        start=start,
        document=int(owners[0]),
        pieces=store.pieces(context, start, start + size),
        activations=tuple(activations.tolist()),
    )
