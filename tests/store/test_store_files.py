"""What is written is what is read, whatever the segments, and whatever went wrong is said."""

from __future__ import annotations

import filecmp
import json
import os
import resource
from itertools import pairwise
from pathlib import Path
from typing import Any

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
    Store,
    StoreWriter,
    Vocabulary,
    compact,
    reader,
)

CONTEXT, LATENTS = 32, 20
VOCABULARY = Vocabulary(tuple(f" w{k}" for k in range(50)))
FRAME = ManifestFrame(model="none", corpus={"path": "text"}, context=CONTEXT)


def dense_batch(seed: int, contexts: int = 4, latents: int = LATENTS) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    values = generator.lognormal(0, 2, (contexts * CONTEXT, latents)).astype(np.float32)
    rates = np.linspace(0, 0.3, latents)
    return np.where(generator.random(values.shape) < rates, values, np.float32(0))


def rows(dense: NDArray[np.float32]) -> Rows:
    matrix = csr_array(dense)
    return Rows(matrix.indptr.astype(np.int64), matrix.indices, matrix.data)


def text_batch(seed: int, contexts: int = 4) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    generator = np.random.default_rng(seed + 1000)
    tokens = generator.integers(0, 50, (contexts, CONTEXT)).astype(np.uint32)
    return tokens, np.full((contexts, CONTEXT), seed, dtype=np.int32)


def fill(writer: StoreWriter, start: int = 0, stop: int = 6) -> None:
    for seed in range(start, stop):
        writer.append(*text_batch(seed), {"a": rows(dense_batch(seed)), "b.2": rows(dense_batch(seed + 50))})


CODERS = (CoderFrame("a", LATENTS, "block.0"), CoderFrame("b.2", LATENTS, "block.0", revision="r1"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def finished(path: Path, **limits: int) -> Store:
    with StoreWriter.create(path, FRAME, VOCABULARY, CODERS, **limits) as writer:
        fill(writer)
        return writer.finish({"dropped_tokens": 5})


def test_every_latent_reads_back(path: Path) -> None:
    store = finished(path)
    for name, offset in (("a", 0), ("b.2", 50)):
        dense = np.concatenate([dense_batch(seed + offset) for seed in range(6)]).astype(np.float16)
        coder = store.coder(name)
        for index in range(LATENTS):
            found = coder.latent(index)
            assert found.positions.tolist() == np.flatnonzero(dense[:, index]).tolist()
            assert found.values.tolist() == dense[found.positions, index].astype(np.float32).tolist()
        assert coder.maximum.tolist() == dense.max(axis=0).astype(np.float32).tolist()
        assert coder.firings.tolist() == (dense > 0).sum(axis=0).tolist()
    assert (coder.hookpoint, coder.revision, coder.observed(3)) == ("block.0", "r1", None)


def test_a_scan_gives_every_latent_once_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BLOCK", 100)
    coder, seen = finished(path).coder("a"), 0
    blocks = list(coder.scan())
    assert len(blocks) > 3
    for block in blocks:
        assert block.first == seen
        for low, high in pairwise(block.indptr.tolist()):
            latent = coder.latent(seen)
            assert block.positions[low:high].tolist() == latent.positions.tolist()
            assert block.values[low:high].astype(np.float32).tolist() == latent.values.tolist()
            seen += 1
    assert seen == LATENTS


def test_tokens_documents_and_counts_read_back(path: Path) -> None:
    store = finished(path)
    tokens = np.concatenate([text_batch(seed)[0] for seed in range(6)])
    assert (store.tokens == tokens).all()
    assert store.documents[:, 0].tolist() == [seed for seed in range(6) for _ in range(4)]
    assert (store.n_contexts, store.context_length, store.n_tokens) == (24, CONTEXT, 24 * CONTEXT)
    assert store.coder_names == ("a", "b.2")
    assert store.manifest.counts == {"dropped_tokens": 5}
    assert store.pieces(3, 4, 6) == (f" w{tokens[3, 4]}", f" w{tokens[3, 5]}")


@given(segment=st.integers(1, 3000), block=st.integers(1, 3000), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=8)
def test_segments_and_blocks_change_no_byte(
    tmp_path_factory: pytest.TempPathFactory, segment: int, block: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    paths = []
    for name, limit, size in (("one", 1 << 24, 1 << 22), ("many", segment, block)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compact, "BLOCK", size)
            patch.setattr(compact, "_SLICE", 0)
            paths.append(folder / name)
            coders = [CoderFrame("a", LATENTS, "block.0")]
            with StoreWriter.create(folder / name, FRAME, VOCABULARY, coders, segment_nonzeros=limit) as writer:
                for part in range(5):
                    writer.append(*text_batch(part), {"a": rows(dense_batch(seed + part))})
                writer.finish()
    assert same_files(*paths)


def same_files(left: Path, right: Path) -> bool:
    def names(folder: Path) -> list[str]:
        found = (p.relative_to(folder).as_posix() for p in folder.rglob("*"))
        return sorted(name for name in found if not name.startswith(".lock") and (folder / name).is_file())

    assert names(left) == names(right)
    return all(filecmp.cmp(left / name, right / name, shallow=False) for name in names(left))


@pytest.mark.parametrize("appended", [0, 1, 3, 6])
def test_a_writer_goes_on_where_its_segments_end(tmp_path: Path, appended: int) -> None:
    whole = finished(tmp_path / "whole", segment_nonzeros=300)
    with StoreWriter.begin(tmp_path / "cut", FRAME, VOCABULARY, CODERS, segment_nonzeros=300) as writer:
        fill(writer, 0, appended)
    with StoreWriter.begin(tmp_path / "cut", FRAME, VOCABULARY, CODERS, segment_nonzeros=300) as writer:
        fill(writer, writer.next_context // 4)
        resumed = writer.finish({"dropped_tokens": 5})
    assert resumed.id == whole.id
    assert same_files(whole.path, resumed.path)


def test_many_segments_need_few_open_files(path: Path) -> None:
    folder = Path("/proc/self/fd")
    handles = len([*folder.iterdir()]) if folder.is_dir() else 64
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    coders = (CoderFrame("a", LATENTS, "block.0", rows=True),)
    with StoreWriter.create(path, FRAME, VOCABULARY, coders, segment_nonzeros=1) as writer:
        for seed in range(60):
            writer.append(*text_batch(seed, 1), {"a": rows(dense_batch(seed, 1))})
        resource.setrlimit(resource.RLIMIT_NOFILE, (handles + 24, limits[1]))
        try:
            store = writer.finish()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    dense = np.concatenate([dense_batch(seed, 1) for seed in range(60)])
    assert store.coder("a").firings.tolist() == (dense > 0).sum(axis=0).tolist()


def test_a_second_writer_is_told_who_writes(path: Path) -> None:
    (ready, tell), (leave, let_go) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(let_go)
        try:
            with StoreWriter.create(path, FRAME, VOCABULARY, CODERS):
                os.write(tell, b"x")
                os.read(leave, 1)
        finally:
            os._exit(0)
    os.read(ready, 1)
    for start in (StoreWriter.create, StoreWriter.begin):
        with pytest.raises(StoreError, match=f"being written by process {child}"):
            start(path, FRAME, VOCABULARY, CODERS)
    for end in (ready, tell, leave, let_go):
        os.close(end)
    os.waitpid(child, 0)
    StoreWriter.begin(path, FRAME, VOCABULARY, CODERS).close()


def test_a_writer_in_the_same_process_is_refused_too(path: Path) -> None:
    with (
        StoreWriter.create(path, FRAME, VOCABULARY, CODERS),
        pytest.raises(StoreError, match=f"being written by process {os.getpid()}"),
    ):
        StoreWriter.resume(path, FRAME, CODERS)


def test_resuming_with_another_configuration_says_what_changed(path: Path) -> None:
    StoreWriter.create(path, FRAME, VOCABULARY, CODERS).close()
    with pytest.raises(StoreError, match=r"another configuration \(model, seed\)"):
        StoreWriter.resume(path, FRAME.model_copy(update={"model": "other", "seed": 3}), CODERS)
    with pytest.raises(StoreError, match=r"another configuration \(coders\)"):
        StoreWriter.resume(path, FRAME, CODERS[:1])
    StoreWriter.resume(path, FRAME.model_copy(update={"versions": {"torch": "9"}}), CODERS).close()


def test_a_folder_with_something_else_is_left_alone(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="is not empty"):
        StoreWriter.create(path, FRAME, VOCABULARY, CODERS)
    assert (path / "thesis.tex").read_text() == "years of work"


def test_a_finished_store_is_not_written_again(path: Path) -> None:
    finished(path)
    with pytest.raises(StoreError, match="already holds a store"):
        StoreWriter.create(path, FRAME, VOCABULARY, CODERS)
    with pytest.raises(StoreError, match="is finished"):
        StoreWriter.resume(path, FRAME, CODERS)


def test_two_coders_of_one_name_are_refused(path: Path) -> None:
    with pytest.raises(StoreError, match='two coders are called "a"'):
        StoreWriter.create(path, FRAME, VOCABULARY, [CODERS[0], CODERS[0]])


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b"])
def test_a_coder_name_that_is_no_folder_name_is_refused(path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="letters, digits"):
        StoreWriter.create(path, FRAME, VOCABULARY, [CoderFrame(name, 3, "block.0")])


def test_a_decoder_is_kept_as_float16(path: Path) -> None:
    decoder = np.random.default_rng(0).normal(size=(LATENTS, 7))
    with StoreWriter.create(path, FRAME, VOCABULARY, [CoderFrame("a", LATENTS, "block.0", None, decoder)]) as writer:
        writer.append(*text_batch(0), {"a": rows(dense_batch(0))})
        store = writer.finish()
    kept = store.coder("a").decoder
    assert kept is not None
    assert kept.dtype == np.float16
    assert (kept == decoder.astype(np.float16)).all()
    with pytest.raises(StoreError, match=r"shape \[7, 20\] where \[20, d_model\]"):
        CoderFrame("a", LATENTS, "block.0", None, decoder.T).manifest()


def one_value(path: Path, value: float, **frame: Any) -> NDArray[np.float32]:
    dense = np.zeros((CONTEXT, LATENTS), dtype=np.float32)
    dense[3, 4] = value
    settings = FRAME.model_copy(update=frame)
    with StoreWriter.create(path, settings, VOCABULARY, CODERS[:1]) as writer:
        writer.append(*text_batch(0, 1), {"a": rows(dense)})
        return writer.finish().coder("a").latent(4).values


def test_a_value_too_large_for_float16_is_an_error_that_names_the_escape(path: Path) -> None:
    with pytest.raises(StoreError, match=r'1e\+06, too large for float16.*value_dtype = "float32"'):
        one_value(path, 1e6)
    assert one_value(path.with_name("wide"), 1e6, value_dtype="float32").tolist() == [1e6]


def test_a_tiny_value_still_fires(path: Path) -> None:
    assert one_value(path, 1e-12)[0] > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0])
def test_a_value_that_is_no_activation_is_refused(path: Path, value: float) -> None:
    part = Rows(np.array([0] + [1] * CONTEXT), np.array([2]), np.array([value], dtype=np.float32))
    writer = StoreWriter.create(path, FRAME, VOCABULARY, CODERS[:1])
    with writer, pytest.raises(ValueError, match="not finite or not above zero"):
        writer.append(*text_batch(0, 1), {"a": part})


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Rows(np.zeros(CONTEXT, dtype=np.int64), np.array([]), np.array([])), "do not fit"),
        (Rows(np.zeros(CONTEXT + 1, dtype=np.int64), np.array([1]), np.array([1.0])), "does not cover"),
        (Rows(np.array([0] + [1] * CONTEXT), np.array([LATENTS]), np.array([1.0])), "outside 0 to 19"),
    ],
)
def test_rows_that_do_not_fit_are_refused(path: Path, part: Rows, message: str) -> None:
    with (
        StoreWriter.create(path, FRAME, VOCABULARY, CODERS[:1]) as writer,
        pytest.raises(ValueError, match=message),
    ):
        writer.append(*text_batch(0, 1), {"a": part})


def test_a_latent_twice_at_one_position_is_refused(path: Path) -> None:
    part = Rows(np.array([0] + [2] * CONTEXT), np.array([2, 2]), np.array([1.0, 2.0]))
    with StoreWriter.create(path, FRAME, VOCABULARY, CODERS[:1]) as writer:
        writer.append(*text_batch(0, 1), {"a": part})
        with pytest.raises(ValueError, match="twice at one position"):
            writer.finish()


def test_a_store_without_contexts_is_refused(path: Path) -> None:
    with (
        StoreWriter.create(path, FRAME, VOCABULARY, CODERS) as writer,
        pytest.raises(StoreError, match="nothing was collected"),
    ):
        writer.finish()


def test_a_coder_that_never_fires_is_a_store_like_any_other(path: Path) -> None:
    with StoreWriter.create(path, FRAME, VOCABULARY, CODERS[:1]) as writer:
        writer.append(*text_batch(0), {"a": rows(np.zeros((4 * CONTEXT, LATENTS), dtype=np.float32))})
        coder = writer.finish().coder("a")
    assert len(coder.latent(3).positions) == 0
    assert coder.maximum.tolist() == [0] * LATENTS
    assert coder.windows(8).tolist() == [0] * LATENTS


def test_a_partial_coder_says_where_it_was_observed(path: Path) -> None:
    part = CoderFrame("a", 3, "block.0", partial=True)
    dense = np.zeros((4 * CONTEXT, 3), dtype=np.float32)
    dense[[1, 2, 3 * CONTEXT], 0] = 1
    dense[CONTEXT + 5, 2] = 1
    told = {
        "are partial": None,
        "does not fit its latents": Observed(np.array([0, 2, 2]), np.array([0, 3])),
        "does not fit its latents and the contexts": Observed(np.array([0, 2, 2, 3]), np.array([0, 3, 4])),
        "do not ascend": Observed(np.array([0, 2, 2, 3]), np.array([3, 0, 1])),
        'latent 2 of "a" fires in context 1, where it was not': Observed(
            np.array([0, 2, 3, 4]), np.array([0, 3, 1, 2])
        ),
    }
    with StoreWriter.create(path, FRAME, VOCABULARY, [part]) as writer:
        writer.append(*text_batch(0), {"a": rows(dense)})
        for message, observed in told.items():
            with pytest.raises(ValueError, match=message):
                writer.finish(observed={"a": observed} if observed else None)
        store = writer.finish(observed={"a": Observed(np.array([0, 2, 2, 4]), np.array([0, 3, 1, 2]))})
    found = [store.coder("a").observed(index) for index in range(3)]
    assert [part.tolist() for part in found if part is not None] == [[0, 3], [], [1, 2]]


def test_what_is_no_store_is_said_to_be_none(path: Path) -> None:
    with pytest.raises(StoreError, match=r"is no store: it has no manifest\.json"):
        Store.open(path)
    StoreWriter.create(path, FRAME, VOCABULARY, CODERS).close()
    with pytest.raises(StoreError, match="is not finished"):
        Store.open(path)


def test_a_store_of_a_later_version_is_refused(path: Path) -> None:
    finished(path)
    file = path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 2, "colour": "red"}))
    with pytest.raises(StoreError, match=r"manifest\.json has format version 2.*install a newer"):
        Store.open(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no store's manifest"),
        ('{"format": "sae-acts", "version": 1}', "frame: Field required"),
    ],
)
def test_a_broken_manifest_is_named(path: Path, text: str, message: str) -> None:
    finished(path)
    (path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=rf"manifest\.json .*{message}"):
        Store.open(path)


def test_a_corrupt_segment_is_not_compacted(path: Path) -> None:
    with StoreWriter.create(path, FRAME, VOCABULARY, CODERS, segment_nonzeros=300) as writer:
        fill(writer)
        file = next((path / "segments").glob("*")) / "a" / "values.npy"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with pytest.raises(StoreError, match=r"values\.npy is corrupt"):
            writer.finish()


def test_a_latent_or_coder_that_is_not_there_is_named(path: Path) -> None:
    store = finished(path)
    with pytest.raises(StoreError, match="latents 0 to 19, not 20"):
        store.coder("a").latent(20)
    with pytest.raises(StoreError, match=r'no coder "c"; it has: a, b\.2'):
        store.coder("c")


def test_stores_of_other_content_have_other_ids(tmp_path: Path) -> None:
    ids = {finished(tmp_path / "one").id, finished(tmp_path / "two").id}
    assert len(ids) == 1
    with StoreWriter.create(tmp_path / "three", FRAME, VOCABULARY, CODERS) as writer:
        fill(writer, 1, 7)
        assert writer.finish().id not in ids


def test_npy_files_are_readable_by_numpy(path: Path) -> None:
    store = finished(path)
    for name in store.manifest.files:
        if name.endswith(".npy"):
            np.load(path / name, allow_pickle=False)
    assert (np.load(path / "tokens.npy") == store.tokens).all()
