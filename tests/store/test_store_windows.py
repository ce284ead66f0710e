"""Windows of one document, and how many of them each latent activates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from harness.errors import StoreError
from harness.store import CoderFrame, ManifestFrame, Rows, Store, StoreWriter, Vocabulary, reader, windows


def make(path: Path, dense: NDArray[np.float32], documents: NDArray[np.int32], tokens: NDArray[np.uint32]) -> Store:
    matrix = csr_array(dense)
    vocabulary = Vocabulary(("", "a", "b", "\udce7", "\udc8c", "\udcab"), (0,))
    frame = ManifestFrame(model="none", corpus={}, context=documents.shape[1])
    with StoreWriter.create(path, frame, vocabulary, [CoderFrame("a", dense.shape[1], "block")]) as writer:
        writer.append(tokens, documents, {"a": Rows(matrix.indptr.astype(np.int64), matrix.indices, matrix.data)})
        return writer.finish()


def random_store(path: Path, seed: int = 0) -> tuple[Store, NDArray[np.float32], NDArray[np.int32]]:
    generator = np.random.default_rng(seed)
    shape = (40, 24)
    documents = np.cumsum(generator.random(shape) < 0.03).astype(np.int32).reshape(shape)
    documents[:, 0] = -1
    documents[7, 5:] = -1
    documents[11] = -1
    dense = (generator.random((960, 9)) * (generator.random((960, 9)) < np.linspace(0, 0.5, 9))).astype(np.float32)
    tokens = generator.integers(0, 6, shape).astype(np.uint32)
    return make(path, dense, documents, tokens), dense, documents


def naive_document(cells: list[int]) -> int:
    kinds = {cell for cell in cells if cell >= 0}
    return -1 if not kinds else kinds.pop() if len(kinds) == 1 else -2


@pytest.mark.parametrize("window", [1, 4, 8, 24])
@pytest.mark.parametrize("scan", [1, 7, 1000, 1 << 22])
def test_windows_are_counted_as_a_loop_counts_them(
    tmp_path: Path, window: int, scan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "SCAN", scan)
    store, dense, documents = random_store(tmp_path / "store")
    flat = documents.ravel()
    expected = [naive_document(flat[k : k + window].tolist()) for k in range(0, len(flat), window)]
    assert store.window_documents(window).tolist() == expected
    assert store.n_windows(window) == sum(document >= 0 for document in expected)
    counts = [
        len({position // window for position in np.flatnonzero(dense[:, latent]) if expected[position // window] >= 0})
        for latent in range(dense.shape[1])
    ]
    assert store.coder("a").windows(window).tolist() == counts


def test_counts_are_kept_beside_the_coder_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, *_ = random_store(tmp_path / "store")
    counts = store.coder("a").windows(8).tolist()
    assert len(list((tmp_path / "store").rglob("windows-8-*.npy"))) == 1
    monkeypatch.setattr(reader, "count_windows", None)
    assert Store.open(tmp_path / "store").coder("a").windows(8).tolist() == counts


def test_a_broken_count_file_is_counted_again(tmp_path: Path) -> None:
    store, *_ = random_store(tmp_path / "store")
    counts = store.coder("a").windows(8).tolist()
    file = next((tmp_path / "store").rglob("windows-8-*.npy"))
    file.write_bytes(file.read_bytes()[:-8])
    assert Store.open(tmp_path / "store").coder("a").windows(8).tolist() == counts


def test_a_window_that_does_not_divide_the_context_is_refused(tmp_path: Path) -> None:
    store, *_ = random_store(tmp_path / "store")
    with pytest.raises(StoreError, match=r"windows of 7 tokens do not divide .* contexts of 24"):
        store.coder("a").windows(7)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_many_windows_are_those_of_each(tmp_path: Path, seed: int) -> None:
    store, *_ = random_store(tmp_path / "store", seed)
    ids = np.random.default_rng(seed).permutation(40 * 6)
    expected = [store.pieces(int(number) // 6, int(number) % 6 * 4, int(number) % 6 * 4 + 4) for number in ids]
    assert store.window_pieces(ids * 4, 4) == expected
    starts = np.array([context * 24 + start for context in range(40) for start in range(21)])
    expected = [store.pieces(int(start) // 24, int(start) % 24, int(start) % 24 + 4) for start in starts]
    assert store.window_pieces(starts, 4) == expected
    whole = [store.vocabulary.pieces(row) for row in store.tokens]
    assert [row[4:8] for row in whole] == [store.pieces(context, 4, 8) for context in range(40)]
