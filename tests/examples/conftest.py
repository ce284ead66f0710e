"""Small random stores whose content is also held densely, to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from harness.store import CoderFrame, CoderReader, ManifestFrame, Rows, Store, StoreWriter, Vocabulary

WORDS = ("", " the", " cat", "s", " sat", "ting", " on", " a", " mat", ".", " hot", "ter", " day", ",", " sun", "ny")


@dataclass(frozen=True)
class Dense:
    """A store and what is in it: activations float32 `[tokens, latents]`, as stored."""

    store: Store
    coder: CoderReader
    activations: NDArray[np.float32]
    documents: NDArray[np.int32]
    tokens: NDArray[np.uint32]


Build = Callable[..., Dense]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    # flushing guards against power loss, which no test tries, and takes most of a small store's time
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Makes a store of random documents; token 0 is BOS at the start of each context and never activates."""
    made = 0

    def make(
        *,
        contexts: int = 64,
        context: int = 64,
        rates: tuple[float, ...] = (0.02, 0.2),
        document_length: int = 90,
        seed: int = 0,
        vocabulary: int = len(WORDS),
        change: Callable[[NDArray[np.uint32], NDArray[np.int32], NDArray[np.float32]], None] | None = None,
        **coder: Any,
    ) -> Dense:
        nonlocal made
        made += 1
        generator = np.random.default_rng(seed)
        size = contexts * context
        tokens = generator.integers(1, vocabulary, size).astype(np.uint32).reshape(contexts, context)
        documents = np.cumsum(generator.random(size) < 1 / document_length).astype(np.int32).reshape(contexts, context)
        dense = np.where(
            generator.random((size, len(rates))) < rates, generator.lognormal(0, 1, (size, len(rates))), 0
        ).astype(np.float32)
        tokens[:, 0], documents[:, 0] = 0, -1
        dense.reshape(contexts, context, -1)[:, 0] = 0
        if change is not None:
            change(tokens, documents, dense.reshape(contexts, context, -1))
        dense = dense.astype(np.float16).astype(np.float32)
        rows = csr_array(dense)
        words = tuple(WORDS[k] if k < len(WORDS) else f" w{k}" for k in range(vocabulary))
        writer = StoreWriter.create(
            tmp_path / f"store{made}",
            ManifestFrame(model="none", corpus={"seed": seed}, context=context, bos=0),
            Vocabulary(words, (0,)),
            [CoderFrame("planted", len(rates), "block", **coder)],
            segment_nonzeros=2000,
        )
        writer.append(tokens, documents, {"planted": Rows(rows.indptr.astype(np.int64), rows.indices, rows.data)})
        store = writer.finish()
        return Dense(store, store.coder("planted"), dense, documents, tokens)

    return make
