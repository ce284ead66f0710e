"""delphi caches of both layouts become stores that hold what the model's latents were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from harness.errors import FormatError, StoreError
from harness.interop import delphi_cache
from harness.interop.activations import import_activations
from harness.store import Store


def dense(store: Store, coder: str) -> NDArray[Any]:
    reader = store.coder(coder)
    found = np.zeros((store.n_tokens, reader.n_latents), np.float32)
    for index in range(reader.n_latents):
        firings = reader.latent(index)
        found[firings.positions, index] = firings.values
    return found.reshape(store.n_contexts, store.context_length, -1)


def test_a_cache_of_now_is_a_store_of_its_activations(cache: Any, tokenizer: Path, tmp_path: Path) -> None:
    store = import_activations(cache.new(), tmp_path / "store", tokenizer=str(tokenizer))
    assert store.coder_names == ("layers.3.mlp",)
    np.testing.assert_array_equal(dense(store, "layers.3.mlp"), cache.expected)
    np.testing.assert_array_equal(store.tokens, cache.tokens)
    frame = store.manifest.frame
    assert (frame.model, frame.sampling, frame.value_dtype) == ("some/model", "all", "float16")
    assert frame.corpus["dataset_repo"] == "some/text"
    assert store.coder("layers.3.mlp").observed(0) is None


@pytest.mark.parametrize("how", ["npy", "safetensors"])
def test_a_cache_of_the_first_releases_needs_its_tokens_beside_it(
    cache: Any, tokenizer: Path, tmp_path: Path, how: str
) -> None:
    tokens = tmp_path / f"tokens.{how}"
    np.save(tokens, cache.tokens) if how == "npy" else save_file({"tokens": cache.tokens}, tokens)
    store = import_activations(
        cache.old(), tmp_path / "store", tokenizer=str(tokenizer), tokens=tokens, model="some/model"
    )
    assert store.coder_names == ("model.layers.3",)
    np.testing.assert_array_equal(dense(store, "model.layers.3"), cache.expected)
    assert store.manifest.frame.value_dtype == "float32"


@pytest.mark.parametrize("layout", ["new", "old"])
def test_which_way_latents_are_counted_is_told_from_the_kind_of_number_where_both_could_be(
    cache: Any, tokenizer: Path, tmp_path: Path, layout: str
) -> None:
    # 3 latents in files of 0 and of 1 and 2: a lone 1 in the second file is latent 1, or the one after it
    cache.dense = cache.dense[..., :3]
    cache.dense[..., 2 if layout == "old" else 1] = 0
    tokens = tmp_path / "tokens.npy"
    np.save(tokens, cache.tokens)
    source = getattr(cache, layout)("block", splits=2)
    store = import_activations(source, tmp_path / "store", tokenizer=str(tokenizer), tokens=tokens, model="m")
    np.testing.assert_array_equal(dense(store, "block"), cache.expected)


@pytest.mark.parametrize("splits", [1, 2, 5])
def test_however_many_files_it_has(cache: Any, tokenizer: Path, tmp_path: Path, splits: int) -> None:
    store = import_activations(cache.new(splits=splits), tmp_path / "store", tokenizer=str(tokenizer))
    np.testing.assert_array_equal(dense(store, "layers.3.mlp"), cache.expected)


def test_every_hookpoint_is_a_coder_of_one_store(cache: Any, tokenizer: Path, tmp_path: Path) -> None:
    cache.new("layers.0")
    first = cache.expected
    cache.dense = np.roll(cache.dense, 1, axis=1)
    store = import_activations(cache.new("layers.10"), tmp_path / "store", tokenizer=str(tokenizer))
    assert store.coder_names == ("layers.0", "layers.10")
    np.testing.assert_array_equal(dense(store, "layers.0"), first)
    np.testing.assert_array_equal(dense(store, "layers.10"), cache.expected)


def test_one_hookpoint_of_a_run_can_be_imported_alone(cache: Any, tokenizer: Path, tmp_path: Path) -> None:
    source = cache.new() / "latents" / "layers.3.mlp"
    store = import_activations(source, tmp_path / "store", tokenizer=str(tokenizer))
    assert store.coder_names == ("layers.3.mlp",)


def test_special_tokens_part_documents_and_no_document_spans_rows(cache: Any, tokenizer: Path, tmp_path: Path) -> None:
    store = import_activations(cache.new(), tmp_path / "store", tokenizer=str(tokenizer))
    expected, number = np.full(cache.tokens.shape, -1), -1
    for row, tokens in enumerate(cache.tokens):
        fresh = True
        for place, token in enumerate(tokens):
            if token == 0:
                fresh = True
                continue
            number += fresh
            fresh = False
            expected[row, place] = number
    found = np.asarray(store.documents)
    assert ((found < 0) == (expected < 0)).all()
    same = {(int(a), int(b)) for a, b in zip(found[found >= 0], expected[expected >= 0], strict=True)}
    assert len(same) == len({a for a, _ in same}) == len({b for _, b in same}) == number + 1


def test_what_is_left_out_is_counted(cache: Any, tokenizer: Path, tmp_path: Path) -> None:
    store = import_activations(cache.new(), tmp_path / "store", tokenizer=str(tokenizer))
    special = int((cache.dense[cache.tokens == 0] > 0).sum())
    assert special > 0
    assert store.manifest.counts == {
        "negative_values_dropped": 1,
        "firings_on_special_tokens_dropped": special,
    }


def test_blocks_and_order_change_nothing(
    cache: Any, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = cache.new()
    whole = import_activations(source, tmp_path / "whole", tokenizer=str(tokenizer))
    monkeypatch.setattr(delphi_cache, "_BLOCK", 100)
    monkeypatch.setattr(delphi_cache, "_SCAN", 7)
    for path in source.rglob("*.safetensors"):
        parts = load_file(path)
        order = np.random.default_rng(0).permutation(len(parts["activations"]))
        parts |= {"locations": parts["locations"][order].copy(), "activations": parts["activations"][order].copy()}
        save_file(parts, path)
    told: list[tuple[int, int]] = []
    shuffled = import_activations(
        source, tmp_path / "shuffled", tokenizer=str(tokenizer), tell=lambda done, total: told.append((done, total))
    )
    assert shuffled.id == whole.id
    assert told[-1] == (40, 40)
    assert len(told) == 14


def test_text_is_the_tokenizers(cache: Any, tokenizer: Path, tmp_path: Path) -> None:
    store = import_activations(cache.new(), tmp_path / "store", tokenizer=str(tokenizer / "tokenizer.json"))
    assert store.pieces(0, 0, 3) == ("", f" w{cache.tokens[0, 1]}", f" w{cache.tokens[0, 2]}")


def change(path: Path, **tensors: Any) -> None:
    save_file({**load_file(path), **tensors}, path)


def _nan(folder: Path) -> None:
    path = folder / "0_2.safetensors"
    values = load_file(path)["activations"]
    values[7] = np.nan
    change(path, activations=values)


def _cut(folder: Path) -> None:
    path = folder / "3_5.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _beyond(folder: Path) -> None:
    change(folder / "0_2.safetensors", tokens=np.full((40, 32), 50_256))


def _other_text(folder: Path) -> None:
    change(folder / "3_5.safetensors", tokens=np.ones((41, 32), np.int64))


def _missing(folder: Path) -> None:
    (folder / "3_5.safetensors").unlink()


def _flat(folder: Path) -> None:
    change(folder / "0_2.safetensors", locations=np.zeros((5, 2), np.uint16))


def _row(folder: Path) -> None:
    path = folder / "6_9.safetensors"
    locations = load_file(path)["locations"]
    locations[-1, 0] = 4000
    change(path, locations=locations)


def _latent(folder: Path) -> None:
    path = folder / "0_2.safetensors"
    locations = load_file(path)["locations"]
    locations[-1, 2] = 40
    change(path, locations=locations)


def _twice(folder: Path) -> None:
    path = folder / "0_2.safetensors"
    parts = load_file(path)
    change(path, **{name: np.concatenate([parts[name][:1], parts[name]]) for name in ("locations", "activations")})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_twice, r"run: the cache is broken: a latent fires twice at one position"),
        (_nan, r"0_2\.safetensors: the activation of latent \d+ in row \d+, position \d+ is nan, and should be a numb"),
        (_cut, r"3_5\.safetensors: this file is broken or cut short"),
        (_beyond, r"0_2\.safetensors: it has token id 50256, and the tokenizer has ids 0 to 49: it is another model's"),
        (_other_text, r"tokens of shape \[41, 32\] and .* of \[40, 32\]"),
        (_missing, r"latents 3 to 5 have no file, or two files overlap"),
        (_flat, r"locations have shape \[5, 2\] and activations \[\d+\], and should have \[n, 3\] and \[n\]"),
        (_row, r"6_9\.safetensors: it has activations in row 4000, and there are tokens of 40 rows"),
        (_latent, r"0_2\.safetensors: it should hold latents 0 to 2 and has 0 to 40"),
    ],
)
def test_a_broken_cache_is_named_and_leaves_no_store(
    cache: Any, tokenizer: Path, tmp_path: Path, damage: Any, message: str
) -> None:
    source = cache.new()
    damage(source / "latents" / "layers.3.mlp")
    with pytest.raises(FormatError, match=message):
        import_activations(source, tmp_path / "stores" / "store", tokenizer=str(tokenizer))
    assert not list((tmp_path / "stores").glob("*"))


def test_hookpoints_of_two_models_or_texts_are_not_mixed(cache: Any, tokenizer: Path, tmp_path: Path) -> None:
    cache.new("layers.0")
    source = cache.new("layers.1", model="other/model")
    with pytest.raises(
        FormatError, match=r'layers.1/config.json: .* of model "other/model" and that of .*"some/model"'
    ):
        import_activations(source, tmp_path / "store", tokenizer=str(tokenizer))
    config = source / "latents" / "layers.1" / "config.json"
    config.write_text(json.dumps({"model_name": "some/model"}))
    for path in config.parent.glob("*.safetensors"):
        change(path, tokens=np.ones_like(cache.tokens))
    with pytest.raises(
        FormatError, match=r"layers.1/0_2.safetensors: it was collected on other text than .*layers.0/0_2"
    ):
        import_activations(source, tmp_path / "store", tokenizer=str(tokenizer))


def test_what_a_cache_lacks_is_asked_for(cache: Any, tokenizer: Path, tmp_path: Path) -> None:
    source = cache.new(model=None)
    with pytest.raises(FormatError, match=r"does not say of which model it is .* give --model$"):
        import_activations(source, tmp_path / "store", tokenizer=str(tokenizer))
    with pytest.raises(FormatError, match=r"give --tokenizer, the folder of the model's tokenizer.json$"):
        import_activations(source, tmp_path / "store", model="m")
    with pytest.raises(FormatError, match=r"--tokenizer .*nowhere: there is no such tokenizer.json"):
        import_activations(source, tmp_path / "store", model="m", tokenizer=str(tmp_path / "nowhere"))
    for path in source.rglob("*.safetensors"):
        parts = load_file(path)
        del parts["tokens"]
        save_file(parts, path)
    with pytest.raises(FormatError, match=r"written without its tokens; give --tokens, a \.npy or \.safetensors"):
        import_activations(source, tmp_path / "store", model="m", tokenizer=str(tokenizer))
    wrong = tmp_path / "wrong.npy"
    np.save(wrong, np.array([["a"]], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"wrong.npy: no token ids can be read from it"):
        import_activations(source, tmp_path / "store", model="m", tokenizer=str(tokenizer), tokens=wrong)


def test_a_store_is_never_overwritten(cache: Any, tokenizer: Path, tmp_path: Path) -> None:
    source, out = cache.new(), tmp_path / "store"
    before = import_activations(source, out, tokenizer=str(tokenizer)).id
    with pytest.raises(StoreError, match=r"store already holds a store: delete it or choose another folder"):
        import_activations(source, out, tokenizer=str(tokenizer))
    assert Store.open(out).id == before
