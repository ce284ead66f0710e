"""Each figure that is kept of a latent is the one a loop over the dense matrix finds."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from harness.errors import StoreError
from harness.store import (
    CoderFrame,
    ManifestFrame,
    Observed,
    Rows,
    Statistics,
    Store,
    StoreWriter,
    Vocabulary,
    add_rows,
)
from harness.store import compact as compaction
from harness.store import statistics as counting

CONTEXT, LATENTS, BATCHES = 16, 12, 5
VOCABULARY = Vocabulary(tuple(f" w{k}" for k in range(9)))


def rows(dense: NDArray[np.float32]) -> Rows:
    matrix = csr_array(dense)
    return Rows(matrix.indptr.astype(np.int64), matrix.indices, matrix.data)


class World:
    """A dense matrix, its tokens and its documents, and the store of them."""

    def __init__(
        self,
        path: Path,
        seed: int = 0,
        value_dtype: Literal["float16", "float32"] = "float16",
        segment: int = 1 << 24,
        *,
        rows_too: bool = False,
    ) -> None:
        generator = np.random.default_rng(seed)
        shape = (BATCHES * 4, CONTEXT)
        # few distinct values: many at the edges of bins, and equal maxima
        values = generator.choice([0.25, 0.5, 1, 2, 3, 7.3, 40], (shape[0] * CONTEXT, LATENTS)).astype(value_dtype)
        self.dense = np.where(generator.random(values.shape) < np.linspace(0, 0.5, LATENTS), values, 0)
        self.tokens = generator.zipf(1.5, shape).clip(1, 8).astype(np.uint32)
        self.documents = np.where(generator.random(shape) < 0.1, -1, 3).astype(np.int32)
        self.dense[self.documents.reshape(-1) < 0] = 0
        self.dense[:, 5] = np.where(self.tokens.reshape(-1) == 2, self.dense[:, 5], 0)
        self.coder = CoderFrame("a", LATENTS, "block", rows=rows_too)
        frame = ManifestFrame(model="none", corpus={}, context=CONTEXT, value_dtype=value_dtype)
        with StoreWriter.create(path, frame, VOCABULARY, [self.coder], segment_nonzeros=segment) as writer:
            for part in range(BATCHES):
                inside = slice(part * 4, part * 4 + 4)
                cells = self.dense[part * 4 * CONTEXT : (part + 1) * 4 * CONTEXT].astype(np.float32)
                writer.append(self.tokens[inside], self.documents[inside], {"a": rows(cells)})
            self.store: Store = writer.finish()


def naive(world: World, latent: int) -> dict[str, Any]:
    column = [Fraction(float(value)) for value in world.dense[:, latent]]
    fires = [place for place, value in enumerate(column) if value]
    values = [column[place] for place in fires]
    most = max(values, default=Fraction(0))
    bins = Counter(min(math.floor(value * counting.BINS / most), counting.BINS - 1) for value in values)
    tokens = Counter(int(world.tokens.reshape(-1)[place]) for place in fires)
    token, times = min(tokens.items(), key=lambda item: (-item[1], item[0]), default=(-1, 0))
    return {
        "read": int((world.documents >= 0).sum()),
        "firings": len(fires),
        "contexts": len({place // CONTEXT for place in fires}),
        "maximum": float(most),
        "total": float(sum(values)),
        "squares": float(sum(value * value for value in values)),
        "histogram": [bins[k] for k in range(counting.BINS)],
        "tokens": len(tokens),
        "top_token": token,
        "top_firings": times,
    }


def check(statistics: Statistics, world: World) -> None:
    for latent in range(LATENTS):
        for name, expected in naive(world, latent).items():
            found = getattr(statistics, name)[latent].tolist()
            assert found == pytest.approx(expected, rel=1e-12), (latent, name)


@given(
    seed=st.integers(0, 100),
    segment=st.integers(1, 1000),
    block=st.integers(1, 1000),
    value_dtype=st.sampled_from(["float16", "float32"]),
)
@settings(deadline=None, max_examples=12)
def test_statistics_are_those_of_the_dense_matrix(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    segment: int,
    block: int,
    value_dtype: Literal["float16", "float32"],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "BLOCK", block)
        patch.setattr(compaction, "_SLICE", 0)
        world = World(tmp_path_factory.mktemp("stores") / "store", seed, value_dtype, segment)
    check(world.store.coder("a").statistics, world)


def test_a_store_of_an_earlier_release_is_counted_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "store")
    kept = {name: record for name, record in world.store.manifest.files.items() if "/statistics/" not in name}
    older = world.store.manifest.model_copy(update={"files": kept})
    (tmp_path / "store" / "manifest.json").write_text(older.model_dump_json())
    for file in (tmp_path / "store").rglob("statistics/*.npy"):
        file.unlink()
    monkeypatch.setattr("harness.store.reader.BLOCK", 50)
    store = Store.open(tmp_path / "store")
    check(store.coder("a").statistics, world)
    assert store.id == world.store.id


def test_latents_that_end_and_begin_in_one_context_are_counted_apart() -> None:
    positions = np.array([3, 5, 4, 20, 21, 40], dtype=np.uint32)
    tally = counting.Tally(np.array([0, 2, 2, 4, 5, 6]), CONTEXT)
    tally.add(0, 5, positions, np.ones(6, dtype=np.uint32), np.ones(6, dtype=np.float16))
    assert tally.arrays["contexts"].tolist() == [1, 0, 2, 1, 1]


def test_tokens_beyond_a_block_of_keys_are_counted_alike(tmp_path: Path) -> None:
    world = World(tmp_path / "store")
    coder = world.store.coder("a")
    indptr = np.concatenate([[0], np.cumsum(coder.firings)])
    positions = np.concatenate([coder.latent(k).positions for k in range(LATENTS)]).astype(np.uint32)
    values = np.concatenate([coder.latent(k).values for k in range(LATENTS)]).astype(np.float16)
    tally = counting.Tally(indptr, CONTEXT)
    # so large an id that only one latent fits into 32 bits together with it
    tokens = world.tokens.reshape(-1)[positions] + np.uint32((1 << 32) - 20)
    tally.add(0, LATENTS, positions, tokens, values)
    found, kept = tally.arrays, coder.statistics
    assert found["top_firings"].tolist() == kept.top_firings.tolist()
    assert found["tokens"].tolist() == kept.tokens.tolist()
    expected = np.where(kept.top_token < 0, -1, kept.top_token + (1 << 32) - 20)
    assert found["top_token"].tolist() == expected.tolist()


def test_what_follows_from_the_counts(tmp_path: Path) -> None:
    world = World(tmp_path / "store")
    found = world.store.coder("a").statistics
    read = world.dense[world.documents.reshape(-1) >= 0].astype(np.float64)
    assert found.rate.tolist() == pytest.approx((read > 0).mean(axis=0).tolist())
    assert found.l0 == pytest.approx((read > 0).sum(axis=1).mean())
    for latent in range(LATENTS):
        column = read[read[:, latent] > 0, latent]
        assert found.mean[latent] == pytest.approx(column.mean() if len(column) else 0)
        assert found.deviation[latent] == pytest.approx(column.std() if len(column) else 0, abs=1e-9)
    assert found.dead.tolist() == (read.max(axis=0) == 0).tolist()
    assert found.dead.tolist()[0] is True
    assert found.rare(30).tolist() == ((read > 0).sum(axis=0) < 30).tolist()
    assert found.single_token().tolist() == [latent == 5 for latent in range(LATENTS)]
    assert found.top_share[5] == 1
    assert found.single_token(0).tolist() == (~found.dead).tolist()


def test_a_partial_latent_is_counted_over_where_it_was_observed(tmp_path: Path) -> None:
    documents = np.zeros((3, CONTEXT), dtype=np.int32)
    documents[:, 0] = -1
    documents[2, 5:] = -1
    dense = np.zeros((3 * CONTEXT, 3), dtype=np.float32)
    dense[[1, 2, CONTEXT + 4], 0] = 1
    frame = ManifestFrame(model="none", corpus={}, context=CONTEXT)
    coder = CoderFrame("a", 3, "block", partial=True)
    with StoreWriter.create(tmp_path / "store", frame, VOCABULARY, [coder]) as writer:
        writer.append(np.ones((3, CONTEXT), dtype=np.uint32), documents, {"a": rows(dense)})
        store = writer.finish(observed={"a": Observed(np.array([0, 2, 3, 3]), np.array([0, 1, 2]))})
    found = store.coder("a").statistics
    assert found.read.tolist() == [2 * (CONTEXT - 1), 4, 0]
    assert found.rate.tolist() == [3 / 30, 0, 0]


@pytest.mark.parametrize("size", [1, 40, 1 << 22])
def test_rows_added_later_are_those_of_a_store_that_was_collected_with_them(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.store.adding.SEGMENT_NONZEROS", size)
    plain, rich = World(tmp_path / "plain").store, World(tmp_path / "rich", rows_too=True).store
    with pytest.raises(StoreError, match=r'coder "a" of .*plain was collected without rows: add_rows'):
        plain.coder("a").fired(0, 1)
    added = add_rows(plain.path)
    added.verify()
    assert (added.manifest, added.id) == (rich.manifest, plain.id)
    found, expected = (store.coder("a").fired(0, store.n_tokens) for store in (added, rich))
    assert found.indptr.tolist() == expected.indptr.tolist()
    assert found.latents.tolist() == expected.latents.tolist()
    with pytest.raises(StoreError, match="has positions 0 to 320, not 300 to 321"):
        added.coder("a").fired(300, 321)


def test_rows_tell_what_fires_at_each_position(tmp_path: Path) -> None:
    for name, segment in (("one", 1 << 24), ("many", 60)):
        world = World(tmp_path / name, segment=segment, rows_too=True)
        coder = world.store.coder("a")
        for start, stop in ((0, world.store.n_tokens), (7, 40), (33, 33), (world.store.n_tokens - 1,) * 2):
            fired = coder.fired(start, stop)
            assert len(fired.indptr) == stop - start + 1
            for place in range(stop - start):
                here = fired.latents[fired.indptr[place] : fired.indptr[place + 1]]
                assert here.tolist() == np.flatnonzero(world.dense[start + place]).tolist()


def test_rows_change_neither_the_store_s_id_nor_what_it_fits(tmp_path: Path) -> None:
    plain, rich = World(tmp_path / "plain").store, World(tmp_path / "rich", rows_too=True).store
    assert (plain.id, plain.manifest.config) == (rich.id, rich.manifest.config)
    assert sum(name.startswith("coders/a/rows/") for name in rich.manifest.files) == 2
