"""An embedding index over windows of a store: which silent windows mean most nearly what activating ones do."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError
from harness.examples.splits import grid_of
from harness.store import Store
from harness.store.files import write_array, write_json
from harness.task import ExampleSettings
from harness.values import digest, seed_of

__all__ = ["SemanticIndex", "build_index", "open_index"]

# windows of the scored split that are embedded, drawn at random where there are more
_POOL: Final = 20_000
# How many activating windows are asked for those like them, and how many each tells: fewer of more tell of more kinds.
_QUERIES: Final = 25
_EACH: Final = 20
_BATCH: Final = 256

Embed = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, eq=False)
class SemanticIndex:
    """Windows of the grid and what they mean: `ids` int64 `[pool]`, ascending, and unit `vectors` `[pool, width]`."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def like(self, activating: NDArray[np.int64], generator: np.random.Generator) -> list[NDArray[np.int64]]:
        """The silent windows of largest cosine with activating ones, the nearest first: a group for each of these.

        Args:
            activating: every window that the latent activates, ascending.
            generator: draws the activating windows of the pool that are asked, where there are many.
        """
        fires = np.isin(self.ids, activating)
        asked = np.flatnonzero(fires)
        asked = generator.permutation(asked)[:_QUERIES]
        silent = np.flatnonzero(~fires)
        # rounded: the last bits of a product depend on what else is computed with it
        cosines = np.round(self.vectors[asked] @ self.vectors[silent].T, 5)
        return [self.ids[silent[np.argsort(-row, kind="stable")[:_EACH]]] for row in cosines]


async def build_index(
    store: Store,
    settings: ExampleSettings,
    seed: int,
    identity: Any,
    embed: Embed,
    tell: Callable[[int, int], None] | None = None,
) -> None:
    """Embed the pool's windows and keep them in files beside the store, unless they are there already.

    Args:
        store: the store.
        settings: the window, the split and the embedder's name.
        seed: the run's seed.
        identity: JSON-able, what else decides the vectors: the embedder's revision and settings.
        embed: gives a vector for each text.
        tell: called with windows done and windows in all.
    """
    made = digest([identity, _POOL])
    described, ids_path, path = _paths(store, settings, seed)
    if _made(described) == made:
        return
    described.unlink(missing_ok=True)
    members = grid_of(store, settings.window, seed, settings.split).members["scored"]
    generator = np.random.Generator(np.random.PCG64(seed_of(seed, "semantic")))
    ids = np.sort(generator.permutation(members)[:_POOL])
    vectors: list[NDArray[np.float32]] = []
    for low in range(0, len(ids), _BATCH):
        texts = store.window_pieces(ids[low : low + _BATCH] * settings.window, settings.window)
        vectors.append(await embed(["".join(pieces) for pieces in texts]))
        if tell is not None:
            tell(min(low + _BATCH, len(ids)), len(ids))
    every = np.concatenate(vectors) if vectors else np.empty((0, 1), dtype=np.float32)
    norms = np.linalg.norm(every, axis=1, keepdims=True)
    unit = np.divide(every, norms, out=np.zeros_like(every), where=norms > 0)
    for target, array in ((ids_path, ids), (path, unit.astype(np.float32))):
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        write_array(temporary, array)
        temporary.replace(target)
    # last: where it is, all is
    write_json(described, {"made": made})


def open_index(store: Store, settings: ExampleSettings, seed: int) -> SemanticIndex:
    """The index that `build_index` made for these settings.

    Raises:
        StoreError: there is none.
    """
    described, ids, vectors = _paths(store, settings, seed)
    if _made(described) is None:
        raise StoreError(
            f"{store.path} has no semantic index for windows of {settings.window} tokens by "
            f"{settings.scored.embedder}; a run with this rung builds it"
        )
    return SemanticIndex(np.load(ids, allow_pickle=False), np.load(vectors, allow_pickle=False, mmap_mode="r"))


def _paths(store: Store, settings: ExampleSettings, seed: int) -> tuple[Path, Path, Path]:
    split = settings.split.model_dump(mode="json")
    name = digest([store.id, settings.window, split, seed, settings.scored.embedder])[:16]
    folder = store.path
    return folder / f"semantic-{name}.json", folder / f"semantic-{name}-ids.npy", folder / f"semantic-{name}.npy"


def _made(described: Path) -> str | None:
    """What the index that lies there was made of, None where there is none."""
    try:
        return json.loads(described.read_text(encoding="utf-8"))["made"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
