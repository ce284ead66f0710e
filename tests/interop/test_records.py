"""Published records become contexts that each latent was observed in only where it has a record of its own."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import FormatError, StoreError
from harness.interop.activations import import_activations
from harness.interop.building import building
from harness.store import Store

Batch = Callable[..., Path]
A, B, C = [" a", "b", " c"], [" d", " e"], ["x"] * 40


def seen(store: Store, latent: int, coder: str = "3-res") -> dict[str, list[float]]:
    """A latent's rows: the text of each with the values on its positions, filled ones left out."""
    reader = store.coder(coder)
    dense = np.zeros(store.n_tokens, np.float32)
    firings = reader.latent(latent)
    dense[firings.positions] = firings.values
    observed = reader.observed(latent)
    assert observed is not None
    found = {}
    for context in observed.tolist():
        length = int((store.documents[context] >= 0).sum())
        row = dense.reshape(store.n_contexts, -1)[context]
        assert not row[length:].any()
        found["".join(store.pieces(context, 0, store.context_length))] = row[:length].tolist()
    return found


def test_a_batch_of_saedashboard(batch: Batch, tmp_path: Path) -> None:
    source = batch({0: [(A, [0, 1.5, 0]), (B, [0, 0])], 2: [(C, [0.25] * 40)]})
    store = import_activations(source, tmp_path / "store")
    assert seen(store, 0) == {" ab c": [0, 1.5, 0], " d e": [0, 0]}
    assert seen(store, 1) == {}
    assert seen(store, 2) == {"x" * 40: [0.25] * 40}
    frame = store.manifest.frame
    assert (frame.model, frame.sampling, frame.corpus["datasets"]) == ("m", "selected", "some/text")
    assert store.context_length == 64  # rows are filled up to a multiple of 32
    assert len(set(np.asarray(store.documents).max(axis=1).tolist())) == 3


def test_nan_in_columns_that_are_not_read_does_no_harm(batch: Batch, tmp_path: Path) -> None:
    source = batch({0: [(A, [0, 1.5, 0])]}, log_sparsity=float("nan"))
    assert "NaN" in source.read_text()
    assert seen(import_activations(source, tmp_path / "store"), 0) == {" ab c": [0, 1.5, 0]}


def test_batches_of_a_folder_make_one_store_in_the_order_of_their_numbers(batch: Batch, tmp_path: Path) -> None:
    batch({5: [(A, [1, 0, 0])]}, "batch-10.json")
    folder = batch({0: [(B, [1, 0])]}, "batch-2.json").parent
    (folder / "skipped_indexes.json").write_text('{"model_id": "m", "skipped_indexes": []}')
    (folder / "LICENSE").write_text("no JSON")
    store = import_activations(folder, tmp_path / "store")
    assert store.pieces(0, 0, 2) == (" d", " e")
    assert store.coder("3-res").n_latents == 6
    assert seen(store, 5) == {" ab c": [1, 0, 0]}


def test_each_sae_is_a_coder(batch: Batch, tmp_path: Path) -> None:
    batch({0: [(A, [1, 0, 0])]}, "one.json")
    source = batch({0: [(A, [0, 2, 0])]}, "two.json", layer="4", sae_id_suffix="b/2").parent
    store = import_activations(source, tmp_path / "store")
    assert store.coder_names == ("3-res", "4-res__b-2")
    assert seen(store, 0) == {" ab c": [1, 0, 0]}
    assert seen(store, 0, "4-res__b-2") == {" ab c": [0, 2, 0]}
    assert store.n_contexts == 1


def test_a_row_that_a_latent_has_twice_is_one(batch: Batch, tmp_path: Path) -> None:
    store = import_activations(batch({0: [(A, [0, 1, 0]), (A, [0, 1, 0]), (A, [0, 0.5, 2])]}), tmp_path / "store")
    assert seen(store, 0) == {" ab c": [0, 1, 2]}  # what fires in either is not called silent
    assert store.manifest.counts["repeated_records"] == 2
    assert store.manifest.counts["repeated_records_that_differ"] == 1


def test_a_row_of_two_latents_is_one_context_observed_for_both(batch: Batch, tmp_path: Path) -> None:
    store = import_activations(batch({0: [(A, [0, 1, 0])], 1: [(A, [0, 0, 0]), (B, [0, 3])]}), tmp_path / "store")
    assert store.n_contexts == 2
    assert seen(store, 0) == {" ab c": [0, 1, 0]}
    assert seen(store, 1) == {" ab c": [0, 0, 0], " d e": [0, 3]}


def test_what_is_no_text_or_below_zero_does_not_fire(batch: Batch, tmp_path: Path) -> None:
    row = ["<|endoftext|>", " a", " b", " c"]
    store = import_activations(batch({0: [(row, [9, -1, 1, 0])]}), tmp_path / "store")
    firings = store.coder("3-res").latent(0)
    assert (firings.positions.tolist(), firings.values.tolist()) == ([2], [1.0])
    assert (store.documents[0, :5] < 0).tolist() == [True, False, False, False, True]
    assert store.manifest.counts["negative_values_dropped"] == 1
    assert store.manifest.counts["firings_on_special_tokens_dropped"] == 1


def test_special_tokens_part_documents_so_that_no_example_has_two(batch: Batch, tmp_path: Path) -> None:
    row = [" a", " b", "<|endoftext|>", "C", "<|endoftext|>"]
    store = import_activations(batch({0: [(row, [0, 0, 0, 1, 0]), (B, [1, 0])]}), tmp_path / "store")
    one, two = (store.documents[context].tolist() for context in (0, 1))
    assert one[0] == one[1] != one[3]
    assert one[2] == one[4] == -1
    assert len({one[0], one[3], two[0]} | {two[1]}) == 3
    assert store.window_documents(32).tolist() == [-2, two[0]]


def line(index: Any, tokens: list[str], values: list[float], **more: Any) -> str:
    return json.dumps({"modelId": "m", "layer": "3-res", "index": index, "tokens": tokens, "values": values, **more})


@pytest.mark.parametrize("zipped", [True, False])
def test_lines_of_neuronpedias_export(tmp_path: Path, zipped: bool) -> None:
    lines = [line("0", A, [0, 1.5, 0], maxValue=1.5, dfaValues=[]), line("0", B, [0, 0]), line(2, C, [0.25] * 40)]
    path = tmp_path / "activations" / ("batch-0.jsonl.gz" if zipped else "batch-0.jsonl")
    path.parent.mkdir()
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode())) if zipped else path.write_text(text)
    (path.parent / "features.jsonl").write_text('{"modelId": "m", "layer": "3-res", "index": "0"}\n')
    store = import_activations(path.parent, tmp_path / "store")
    assert seen(store, 0) == {" ab c": [0, 1.5, 0], " d e": [0, 0]}
    assert seen(store, 2) == {"x" * 40: [0.25] * 40}


@pytest.mark.parametrize("how", ["one", "array", "lines", "indented"])
def test_features_as_neuronpedias_api_gives_them(tmp_path: Path, how: str) -> None:
    rows = [{"tokens": A, "values": [0, 1.5, 0], "maxValue": 1.5}, {"tokens": B, "values": [0, 0]}]
    first = {"modelId": "m", "layer": "3-res", "index": "0", "activations": rows, "explanations": []}
    second = {**first, "index": "2", "activations": [{"tokens": C, "values": [0.25] * 40}]}
    path = tmp_path / "features.json"
    path.write_text(
        {
            "one": json.dumps(first),
            "array": json.dumps([first, second]),
            "lines": f"{json.dumps(first)}\n{json.dumps(second)}\n",
            "indented": json.dumps([first, second], indent=2),
        }[how]
    )
    store = import_activations(path, tmp_path / "store")
    assert seen(store, 0) == {" ab c": [0, 1.5, 0], " d e": [0, 0]}
    if how != "one":
        assert seen(store, 2) == {"x" * 40: [0.25] * 40}


def test_the_same_records_of_any_shape_are_the_same_rows(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join([line(0, A, [0, 1.5, 0]), line(0, B, [0, 0])]))
    one = import_activations(path, tmp_path / "one")
    two = import_activations(batch({0: [(A, [0, 1.5, 0]), (B, [0, 0])]}), tmp_path / "two")
    assert seen(one, 0) == seen(two, 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(A, [0, 1])], r"batch-0.json: feature 0, activations\[0\]: it has 3 tokens and 2 values"),
        ([(B, [1, 0]), (A, [0, float("nan"), 0])], r"feature 0, activations\[1\]: the value at position 1 is nan"),
        ([(A, [0, float("inf"), 0])], r"activations\[0\]: the value at position 1 is inf, and should be a number"),
        ([(A, [0, None, 0])], r"features\[0\].activations\[0\].values\[1\]: expected float, got null"),
        ([([], [])], r"activations\[0\]: it has no tokens"),
        ([], r"there are no records of any latent"),
    ],
)
def test_a_broken_record_is_named_and_leaves_no_store(batch: Batch, tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        import_activations(batch({0: rows}), tmp_path / "stores" / "store")
    assert not list((tmp_path / "stores").glob("*"))


def test_a_batch_of_another_model_is_not_mixed_in(batch: Batch, tmp_path: Path) -> None:
    batch({0: [(A, [0, 1, 0])]}, "batch-0.json")
    source = batch({0: [(A, [0, 1, 0])]}, "batch-1.json", model_id="other").parent
    with pytest.raises(
        FormatError, match=r'batch-1.json: .* is of model "other" and that of .*batch-0.json.* is of "m"'
    ):
        import_activations(source, tmp_path / "store")


def test_a_file_cut_short_is_named(batch: Batch, tmp_path: Path) -> None:
    batch({0: [(A, [0, 1, 0])]}, "batch-0.json")
    path = batch({0: [(A, [0, 1, 0])]}, "batch-1.json")
    path.write_text(path.read_text()[:-9])
    with pytest.raises(FormatError, match=r"batch-1.json: this is no JSON, or the file is cut short"):
        import_activations(path.parent, tmp_path / "store")
    zipped = tmp_path / "lines.jsonl.gz"
    zipped.write_bytes(gzip.compress((line(0, A, [0, 1, 0]) + "\n").encode() * 50)[:-20])
    with pytest.raises(FormatError, match=r"lines.jsonl.gz: this file cannot be read"):
        import_activations(zipped, tmp_path / "store")
    lines = tmp_path / "lines.jsonl"
    lines.write_text(line(0, A, [0, 1, 0]) + "\n" + line(0, B, [0, 1])[:-4])
    with pytest.raises(FormatError, match=r"lines.jsonl, line 2: this is no JSON, or the file is cut short"):
        import_activations(lines, tmp_path / "store")


def test_what_is_of_no_known_format_says_what_it_is(tmp_path: Path) -> None:
    known = r"known are SAEDashboard's feature batches, .* and delphi's activation caches$"
    path = tmp_path / "a.json"
    path.write_text('{"b": 1, "a": 2}')
    with pytest.raises(FormatError, match=r"a.json is of no known format: it is JSON with the keys a, b; " + known):
        import_activations(path, tmp_path / "store")
    path.write_bytes(b"\x89PNG....")
    with pytest.raises(FormatError, match=r"a.json is of no known format: it begins with b'.x89PNG\.\.\.\.'; " + known):
        import_activations(path, tmp_path / "store")
    path.unlink()
    with pytest.raises(FormatError, match=r"of no known format: it has nothing; " + known):
        import_activations(tmp_path, tmp_path / "store")
    with pytest.raises(FormatError, match=r"nowhere: there is no such file or folder"):
        import_activations(tmp_path / "nowhere", tmp_path / "store")


def test_options_of_caches_are_refused_for_records(batch: Batch, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"^--tokenizer is for caches of token ids, and .* is none"):
        import_activations(batch({0: [(A, [0, 1, 0])]}), tmp_path / "store", tokenizer="t")


def test_what_a_killed_import_left_is_cleared_away(batch: Batch, tmp_path: Path) -> None:
    left = tmp_path / ".store.importing" / "store"
    left.mkdir(parents=True)
    (left / "manifest.json").write_text("half")
    import_activations(batch({0: [(A, [0, 1, 0])]}), tmp_path / "store").verify()
    assert not left.parent.exists()


def test_one_import_at_a_time_writes_a_store(batch: Batch, tmp_path: Path) -> None:
    source = batch({0: [(A, [0, 1, 0])]})
    with building(tmp_path / "store") as room:
        room.mkdir()
        with pytest.raises(StoreError, match=r"store is being imported by process \d+: wait for it"):
            import_activations(source, tmp_path / "store")
        assert room.is_dir()


def test_a_store_is_never_overwritten(batch: Batch, tmp_path: Path) -> None:
    out = tmp_path / "store"
    out.mkdir()
    source = batch({0: [(A, [0, 1, 0])]})
    before = import_activations(source, out).id
    with pytest.raises(StoreError, match=r"store already holds a store: delete it or choose another folder"):
        import_activations(source, out)
    assert Store.open(out).id == before
    Store.open(out).verify()
